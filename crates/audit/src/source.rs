//! Where victims and the attacker's own pictures come from. No picture is both.

use std::path::{Path, PathBuf};

use arras_vit::{ImageFile, Preprocessor, decode, images_in};

use crate::picture::{Sample, sample, tiles};
use crate::{Error, Random, Result};

/// Pictures to attack and to learn from.
///
/// ```
/// use arras_audit::Source;
/// use arras_vit::{Architecture, Preprocessor, preprocess::Steps};
///
/// let vit = Architecture::tiny();
/// let preprocessor = Preprocessor::new(Steps::for_family(&vit), &vit)?;
/// let tiles = Source::Tiles(7);
/// let (victims, own) = (tiles.victims(&preprocessor, 2)?, tiles.own(&preprocessor, 2)?);
/// assert_eq!((tiles.classes(), victims[0].image.shape()), (3, [3, 64, 64]));
/// assert!(victims.iter().all(|victim| own.iter().all(|own| own.image != victim.image)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub enum Source {
    /// Generated tiles of this seed; the attacker's have other patients, sites and stains than the victims'.
    Tiles(u64),
    /// The files of a folder in an order that depends on a seed: victims from the front, the attacker's from the back.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Its pictures, shuffled.
        files: Vec<ImageFile>,
        /// Names of its sub-folders, sorted: the classes.
        classes: Vec<String>,
    },
}

impl Source {
    /// The pictures of a folder and below; sub-folders are classes.
    ///
    /// # Errors
    /// A folder that cannot be read, or with fewer than 20 pictures.
    pub fn folder(folder: &Path, seed: u64) -> Result<Self> {
        let mut files = images_in(folder)?;
        if files.len() < 20 {
            return Err(Error::file(folder, format!("{} pictures are too few, at least 20", files.len())));
        }
        let mut classes: Vec<String> = files.iter().filter_map(|file| file.label.clone()).collect();
        classes.sort();
        classes.dedup();
        Random::new("arras/1 audit files", &[seed]).shuffle(&mut files);
        Ok(Self::Folder { folder: folder.to_path_buf(), files, classes })
    }

    /// What a report says.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tiles(seed) => format!("generated tiles, seed {seed}"),
            Self::Folder { folder, files, .. } => format!("{}, {} files", folder.display(), files.len()),
        }
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        match self {
            Self::Tiles(_) => arras_fit::tiles::CLASSES.len(),
            Self::Folder { classes, .. } => classes.len().max(1),
        }
    }

    /// How many victims and own pictures there are at most when so many are asked for: of a folder a quarter are
    /// victims.
    #[must_use]
    pub fn limits(&self, victims: usize, own: usize) -> (usize, usize) {
        match self {
            Self::Tiles(_) => (victims, own),
            Self::Folder { files, .. } => {
                let victims = victims.min(files.len() / 4);
                (victims, own.min(files.len() - victims))
            }
        }
    }

    /// The first `count` victims, as a model sees them.
    ///
    /// # Errors
    /// A file that is no picture, or fewer than there are asked for.
    pub fn victims(&self, preprocessor: &Preprocessor, count: usize) -> Result<Vec<Sample>> {
        match self {
            Self::Tiles(seed) => tiles(preprocessor, derived(*seed, 1), count),
            Self::Folder { files, classes, .. } => load(preprocessor, files.iter().take(count), classes),
        }
    }

    /// The first `count` of the attacker's own pictures, as a model sees them.
    ///
    /// # Errors
    /// A file that is no picture, or fewer than there are asked for.
    pub fn own(&self, preprocessor: &Preprocessor, count: usize) -> Result<Vec<Sample>> {
        match self {
            Self::Tiles(seed) => tiles(preprocessor, derived(*seed, 2), count),
            Self::Folder { files, classes, .. } => {
                load(preprocessor, files.iter().rev().take(count), classes)
            }
        }
    }
}

fn derived(seed: u64, role: u64) -> u64 {
    Random::new("arras/1 audit tiles", &[seed, role]).word()
}

fn load<'a>(
    preprocessor: &Preprocessor,
    files: impl Iterator<Item = &'a ImageFile>,
    classes: &[String],
) -> Result<Vec<Sample>> {
    files
        .map(|file| {
            let class = file.label.as_ref().and_then(|label| classes.binary_search(label).ok());
            sample(preprocessor, &decode(&file.path)?, class.unwrap_or(0))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use arras_vit::{Architecture, Tensors};

    use super::*;

    #[test]
    fn victims_are_never_the_attackers() -> Result<()> {
        let model = Tensors::random(&Architecture::tiny(), 1)?;
        let folder = tempfile::tempdir().unwrap();
        for (index, tile) in tiles(&model.preprocessor, 3, 24)?.iter().enumerate() {
            let class = folder.path().join(format!("class-{}", tile.class));
            std::fs::create_dir_all(&class).unwrap();
            tile.image.save(&class.join(format!("{index}.png")))?;
        }
        for source in [Source::Tiles(7), Source::folder(folder.path(), 7)?] {
            let (victims, own) = source.limits(6, 40);
            let victims = source.victims(&model.preprocessor, victims)?;
            let own = source.own(&model.preprocessor, own)?;
            assert_eq!((victims.len(), source.classes()), (6, 3));
            assert!(victims.iter().all(|victim| own.iter().all(|other| victim.image != other.image)));
        }
        assert!(Source::folder(&folder.path().join("class-0"), 1).is_err());
        Ok(())
    }
}
