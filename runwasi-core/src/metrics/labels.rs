//! An enum of this program as the values of a label.

/// The values of a label.
pub(crate) trait Label: Copy + 'static {
    /// All values.
    const ALL: &'static [Self];

    /// The value's text.
    fn text(self) -> &'static str;
}

/// Declares an enum whose variants are the values of a label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Number of values.
            pub(crate) const COUNT: usize = [$(Self::$variant),*].len();
        }

        impl $crate::metrics::labels::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

pub(crate) use label;
