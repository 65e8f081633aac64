//! Enums whose variants are words that a person writes.

/// One of a few words.
pub(crate) trait Word: Copy + PartialEq + Sized + 'static {
    /// What kind of word it is, for messages: `site`, `method`, …
    const WHAT: &'static str;
    /// Every word that may be written, in the order in which they are listed to a person.
    const WORDS: &'static [Self];

    /// As it is written.
    fn word(self) -> &'static str;

    /// The word that is written so.
    fn find(text: &str) -> Option<Self> {
        Self::WORDS.iter().copied().find(|word| word.word() == text)
    }

    /// All words as they are written.
    fn all() -> impl Iterator<Item = &'static str> {
        Self::WORDS.iter().map(|word| word.word())
    }
}

/// Declares an enum of words in one place: adding a variant is adding its line.
///
/// It gets `ALL`, `as_str`, `Display`, `FromStr` (whose error suggests the nearest word), serde and a JSON Schema in
/// which each word has its documentation.
macro_rules! words {
    (
        #[what($what:literal)]
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        $vis enum $name {
            $($(#[$variant_meta])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in definitions and reports.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl $crate::written::Word for $name {
            const WHAT: &'static str = $what;
            const WORDS: &'static [Self] = Self::ALL;

            fn word(self) -> &'static str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::nearest::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                use $crate::written::Word;
                Self::find(text)
                    .ok_or_else(|| $crate::nearest::UnknownWord::new($what, text, Self::all()))
            }
        }
    };
}
pub(crate) use words;
