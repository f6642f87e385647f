//! How a merged copy learns which mutant it is.
//!
//! A module is written into every mutated crate of the copy, and nowhere else. On a host it reads a
//! variable of the environment, once. A kernel has no environment: there the number is a word
//! in the image, found by the mark before it. What is told apart is the way of panicking, because
//! one build of the core knows no more about where it will run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable; 0 is no mutant.
pub(crate) const VARIABLE: &str = "WEFT_MUTANT";

/// The file that is written beside the root of a crate, and the line that declares it there.
pub(crate) const FILE: &str = "mutant_choice.rs";

/// The line that the root of a crate gets.
pub(crate) const DECLARATION: &str = "\nmod mutant_choice;\n";

/// What marks the number in an image.
const MARK: &[u8; 16] = b"\xf3weft mutant no\xf3";

/// The module.
pub(crate) fn module() -> String {
    let mark = MARK.escape_ascii();
    format!(
        r#"//! Written by `model-check mutants` into a scratch copy: which mutant runs.

/// The number; 0 is no mutant.
#[inline]
pub(crate) fn chosen() -> u32 {{
    place::chosen()
}}

#[cfg(not(panic = "abort"))]
mod place {{
    extern crate std;
    use core::sync::atomic::{{AtomicU32, Ordering}};

    static CHOSEN: AtomicU32 = AtomicU32::new(u32::MAX);

    #[inline]
    pub(super) fn chosen() -> u32 {{
        match CHOSEN.load(Ordering::Relaxed) {{
            u32::MAX => read(),
            number => number,
        }}
    }}

    #[cold]
    fn read() -> u32 {{
        let number = match std::env::var("{VARIABLE}") {{
            Ok(text) => text.parse().expect("{VARIABLE} is a number"),
            Err(_) => 0,
        }};
        CHOSEN.store(number, Ordering::Relaxed);
        number
    }}
}}

#[cfg(panic = "abort")]
mod place {{
    use core::sync::atomic::{{AtomicU32, Ordering}};

    /// Kept whole and in this order: the image is searched for the mark.
    #[repr(C)]
    struct Choice {{
        mark: [u8; 16],
        number: AtomicU32,
    }}

    static CHOICE: Choice = Choice {{ mark: *b"{mark}", number: AtomicU32::new(0) }};

    #[inline]
    pub(super) fn chosen() -> u32 {{
        core::hint::black_box(&CHOICE).number.load(Ordering::Relaxed)
    }}
}}
"#
    )
}

/// A file of an image with its number, removed when dropped.
#[derive(Debug)]
pub(crate) struct Image(PathBuf);

impl Image {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // One that is left over is written over by the next run.
        let _ = fs::remove_file(&self.0);
    }
}

/// A copy of a kernel's image that runs a mutant.
///
/// # Errors
///
/// One sentence, if the image cannot be copied, or does not choose although it should.
pub(crate) fn image(original: &Path, mutant: u32) -> Result<Image, String> {
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let cannot = |error| format!("cannot copy {}: {error}", original.display());
    let mut bytes = fs::read(original).map_err(cannot)?;
    if choose(&mut bytes, mutant) == 0 && mutant != 0 {
        return Err(format!("{} contains no choice of mutants", original.display()));
    }
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let copy = Image(original.with_extension(format!("{number}")));
    fs::write(&copy.0, bytes).map_err(cannot)?;
    Ok(copy)
}

/// Writes the number behind every mark, and says how many there are.
fn choose(image: &mut [u8], mutant: u32) -> usize {
    let length = MARK.len() + size_of::<u32>();
    let windows = image.windows(length).enumerate();
    let marked = windows.filter(|(_, window)| window.starts_with(MARK));
    let places: Vec<usize> = marked.map(|(place, _)| place).collect();
    for place in &places {
        image[place + MARK.len()..place + length].copy_from_slice(&mutant.to_le_bytes());
    }
    places.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_written_behind_every_mark() {
        let mut image = [b"ab".as_slice(), MARK, &[0; 4], b"c", MARK, &[0; 4]].concat();
        assert_eq!(choose(&mut image, 0x0102), 2);
        assert_eq!(
            image,
            [b"ab".as_slice(), MARK, &[2, 1, 0, 0], b"c", MARK, &[2, 1, 0, 0]].concat()
        );
        assert_eq!(choose(&mut [0; 100], 7), 0);
        assert_eq!(choose(&mut [], 7), 0);
    }

    #[test]
    fn the_module_is_rust() {
        let module = module();
        assert!(module.parse::<proc_macro2::TokenStream>().is_ok(), "{module}");
        assert!(module.contains("weft mutant no"), "{module}");
    }
}
