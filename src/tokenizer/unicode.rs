//! The few classes of characters that the pre-tokenizers tell apart.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as HirClass, HirKind};

/// A character's class; the first three are Unicode's general categories L, M and N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Letter,
    Mark,
    Number,
    Space,
    Other,
}

struct Table {
    ascii: [Class; 128],
    /// First and last character, sorted; what is in no range is [`Class::Other`].
    ranges: Vec<(char, char, Class)>,
}

/// The tables come from the regex engine, so that scanners and regexes agree.
static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let classes = [
        (r"\p{L}", Class::Letter),
        (r"\p{M}", Class::Mark),
        (r"\p{N}", Class::Number),
        (r"\s", Class::Space),
    ];
    let mut ranges: Vec<_> = classes
        .iter()
        .flat_map(|&(regex, class)| ranges_of(regex, class))
        .collect();
    ranges.sort_unstable();
    let ascii = std::array::from_fn(|code| look_up(&ranges, char::from(code as u8)));
    Table { ascii, ranges }
});

/// The class of a character.
pub(super) fn class_of(character: char) -> Class {
    let table = &*TABLE;
    let ascii = table.ascii.get(character as usize).copied();
    ascii.unwrap_or_else(|| look_up(&table.ranges, character))
}

fn look_up(ranges: &[(char, char, Class)], character: char) -> Class {
    let after = ranges.partition_point(|&(first, ..)| first <= character);
    match after.checked_sub(1).map(|at| ranges[at]) {
        Some((_, last, class)) if character <= last => class,
        _ => Class::Other,
    }
}

/// The ranges of a regex that is one class.
fn ranges_of(regex: &str, class: Class) -> Vec<(char, char, Class)> {
    match regex_syntax::parse(regex).map(|hir| hir.into_kind()) {
        Ok(HirKind::Class(HirClass::Unicode(found))) => found
            .iter()
            .map(|range| (range.start(), range.end(), class))
            .collect(),
        _ => Vec::new(),
    }
}

/// A set of characters, for what is asked more rarely.
pub(super) struct Set(Vec<(char, char, Class)>);

impl Set {
    /// Of a regex that is one class.
    pub(super) fn of(regex: &str) -> Set {
        Set(ranges_of(regex, Class::Letter))
    }

    pub(super) fn has(&self, character: char) -> bool {
        look_up(&self.0, character) != Class::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_agree_with_the_standard_library() {
        for character in '\0'..=char::MAX {
            let class = class_of(character);
            assert_eq!(
                class == Class::Space,
                character.is_whitespace(),
                "{character:?}"
            );
            if character.is_ascii() {
                assert_eq!(class == Class::Letter, character.is_ascii_alphabetic());
                assert_eq!(class == Class::Number, character.is_ascii_digit());
            }
        }
        assert_eq!(class_of('é'), Class::Letter);
        assert_eq!(class_of('中'), Class::Letter);
        assert_eq!(class_of('\u{301}'), Class::Mark);
        assert_eq!(class_of('½'), Class::Number);
        assert_eq!(class_of('Ⅷ'), Class::Number);
        assert_eq!(class_of('€'), Class::Other);
        assert_eq!(class_of('😀'), Class::Other);
    }
}
