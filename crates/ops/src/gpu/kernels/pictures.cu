// Images that wait as bytes.

// Where a line lies in an image that goes on, mirrored about its ends, or in none.
device_function int folded_line(int line, int side, int folds)
{
    if (folds) line = line < 0 ? -line : line >= side ? 2 * (side - 1) - line : line;
    return line < 0 || line >= side ? -1 : line;
}

// `picks`, four numbers an image: which, how far its crop lies below and to the right, and whether it is mirrored.
kernel crops(const unsigned char *bytes, const unsigned *picks, float *y, int count, int height, int width, int folds)
{
    each(at, count)
    {
        int colour = at % 3, column = at / 3 % width, line = at / 3 / width % height;
        const unsigned *pick = picks + at / 3 / width / height * 4;
        if (pick[3]) column = width - 1 - column;
        line = folded_line(line + (int)pick[1], height, folds);
        column = folded_line(column + (int)pick[2], width, folds);
        unsigned long long pixel = ((unsigned long long)pick[0] * height + line) * width + column;
        y[at] = line < 0 || column < 0 ? 0.0f : (float)bytes[pixel * 3 + colour] / 255.0f;
    }
}

