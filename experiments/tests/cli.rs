//! What the command line says, word for word: `TRYCMD=overwrite cargo test -p sokd-experiments --test cli` accepts changes.

#[test]
fn the_command_line_says_what_it_said() {
    trycmd::TestCases::new()
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .env("SOKD_DATA_DIR", "/no/such/folder")
        .env("XDG_CACHE_HOME", "/no/such/folder")
        .case("tests/cli/*.trycmd");
}
