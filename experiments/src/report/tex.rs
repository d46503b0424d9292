//! Text that means itself in LaTeX.

use std::fmt::{self, Display, Write};

/// Text that means itself, in pdflatex without packages: what it has no letter for is set as mathematics, and what it
/// has not at all is named by its number.
pub(super) struct Tex<'a>(pub &'a str);

impl Display for Tex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' | '%' | '$' | '#' | '_' | '{' | '}' => write!(f, "\\{letter}")?,
                '\\' => f.write_str("\\textbackslash{}")?,
                '~' => f.write_str("\\textasciitilde{}")?,
                '^' => f.write_str("\\textasciicircum{}")?,
                '—' => f.write_str("---")?,
                '–' => f.write_str("--")?,
                '’' => f.write_str("'")?,
                '‘' => f.write_str("`")?,
                '“' => f.write_str("``")?,
                '”' | '"' => f.write_str("''")?,
                '…' => f.write_str("\\ldots{}")?,
                '\u{a0}' | '\u{202f}' => f.write_char('~')?,
                '\n' => f.write_char(' ')?,
                other => match sign(other) {
                    Some(sign) => write!(f, "${sign}$")?,
                    None if ours(other) => f.write_char(other)?,
                    None => write!(f, "[U+{:04X}]", u32::from(other))?,
                },
            }
        }
        Ok(())
    }
}

/// ASCII, and the letters of western Europe that LaTeX's own fonts have, some by an accent.
fn ours(letter: char) -> bool {
    matches!(letter, ' '..='\u{7e}' | 'À'..='ÿ') && !matches!(letter, 'Ð' | 'Þ' | 'ð' | 'þ' | '÷')
}

/// How mathematics calls it.
fn sign(letter: char) -> Option<&'static str> {
    const SIGNS: &[(char, &str)] = &[
        ('<', "<"),
        ('>', ">"),
        ('|', "|"),
        ('×', "\\times"),
        ('±', "\\pm"),
        ('−', "-"),
        ('→', "\\rightarrow"),
        ('←', "\\leftarrow"),
        ('′', "'"),
        ('·', "\\cdot"),
        ('≤', "\\le"),
        ('≥', "\\ge"),
        ('†', "\\dagger"),
        ('²', "^2"),
        ('ⁿ', "^n"),
        ('α', "\\alpha"),
        ('β', "\\beta"),
        ('γ', "\\gamma"),
        ('δ', "\\delta"),
        ('ε', "\\varepsilon"),
        ('ζ', "\\zeta"),
        ('η', "\\eta"),
        ('θ', "\\theta"),
        ('κ', "\\kappa"),
        ('λ', "\\lambda"),
        ('μ', "\\mu"),
        ('ν', "\\nu"),
        ('ξ', "\\xi"),
        ('π', "\\pi"),
        ('ρ', "\\rho"),
        ('σ', "\\sigma"),
        ('τ', "\\tau"),
        ('φ', "\\varphi"),
        ('χ', "\\chi"),
        ('ψ', "\\psi"),
        ('ω', "\\omega"),
        ('Δ', "\\Delta"),
        ('Σ', "\\Sigma"),
    ];
    SIGNS.iter().find(|(known, _)| *known == letter).map(|(_, sign)| *sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_latex_would_obey_is_set_as_it_is() {
        let text = "wrn_40_2 → wrn_16_2: 95 % of A′ & {~^\\}, #1 $x$ ±1 − 2";
        let set = r"wrn\_40\_2 $\rightarrow$ wrn\_16\_2: 95 \% of A$'$ \& \{\textasciitilde{}\textasciicircum{}\textbackslash{}\}, \#1 \$x\$ $\pm$1 $-$ 2";
        assert_eq!(Tex(text).to_string(), set);
        assert_eq!(Tex("α é ð 時").to_string(), r"$\alpha$ é [U+00F0] [U+6642]");
    }
}
