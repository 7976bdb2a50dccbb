//! Where victims and the attacker's own pictures come from. No picture is both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arras_fit::Features;
use arras_fit::import::attach_groups;
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
    /// The files of a folder, divided by a seed. Pictures of one group are on the same side.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// A quarter of its pictures, shuffled.
        victims: Vec<ImageFile>,
        /// All others, shuffled.
        own: Vec<ImageFile>,
        /// Names of its sub-folders, sorted: the classes.
        classes: Vec<String>,
    },
}

impl Source {
    /// The pictures of a folder and below; sub-folders are classes. If it has a file `groups.csv` (columns `file` and `group`),
    /// no group has pictures on both sides: copies of a victim, or other pictures of the same patient, are not what an attacker
    /// has.
    ///
    /// # Errors
    /// A folder that cannot be read, or with fewer than 20 pictures; groups that do not fit the pictures, or leave fewer
    /// than half of them to the attacker.
    pub fn folder(folder: &Path, seed: u64) -> Result<Self> {
        let files = images_in(folder)?;
        if files.len() < 20 {
            return Err(Error::file(folder, format!("{} pictures are too few, at least 20", files.len())));
        }
        let mut classes: Vec<String> = files.iter().filter_map(|file| file.label.clone()).collect();
        classes.sort();
        classes.dedup();
        let count = files.len();
        let mut random = Random::new("arras/1 audit files", &[seed]);
        let mut groups = by_group(folder, files)?;
        random.shuffle(&mut groups);
        let (mut victims, mut own) = (Vec::new(), Vec::new());
        for group in groups {
            if victims.len() < count / 4 { &mut victims } else { &mut own }.extend(group);
        }
        if own.len() < count / 2 {
            let why = format!("groups so large leave {} of {count} pictures to the attacker", own.len());
            return Err(Error::file(&folder.join(GROUPS), why));
        }
        random.shuffle(&mut victims);
        random.shuffle(&mut own);
        Ok(Self::Folder { folder: folder.to_path_buf(), victims, own, classes })
    }

    /// What a report says.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tiles(seed) => format!("generated tiles, seed {seed}"),
            Self::Folder { folder, victims, own, .. } => {
                format!("{}, {} files", folder.display(), victims.len() + own.len())
            }
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

    /// How many victims and own pictures there are at most when so many are asked for.
    #[must_use]
    pub fn limits(&self, victims: usize, own: usize) -> (usize, usize) {
        match self {
            Self::Tiles(_) => (victims, own),
            Self::Folder { victims: there, own: others, .. } => {
                (victims.min(there.len()), own.min(others.len()))
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
            Self::Folder { victims, classes, .. } => load(preprocessor, victims.iter().take(count), classes),
        }
    }

    /// The first `count` of the attacker's own pictures, as a model sees them.
    ///
    /// # Errors
    /// A file that is no picture, or fewer than there are asked for.
    pub fn own(&self, preprocessor: &Preprocessor, count: usize) -> Result<Vec<Sample>> {
        match self {
            Self::Tiles(seed) => tiles(preprocessor, derived(*seed, 2), count),
            Self::Folder { own, classes, .. } => load(preprocessor, own.iter().take(count), classes),
        }
    }
}

/// The file in a folder of pictures that names their groups.
const GROUPS: &str = "groups.csv";

/// Files that belong together; without groups each file for itself.
fn by_group(folder: &Path, files: Vec<ImageFile>) -> Result<Vec<Vec<ImageFile>>> {
    let table = folder.join(GROUPS);
    if !table.exists() {
        return Ok(files.into_iter().map(|file| vec![file]).collect());
    }
    let names = files.iter().map(|file| file.relative_name.clone()).collect();
    let mut rows = Features { names, ..Features::default() };
    attach_groups(&mut rows, &table)?;
    let mut groups: BTreeMap<String, Vec<ImageFile>> = BTreeMap::new();
    for (group, file) in rows.groups.into_iter().flatten().zip(files) {
        groups.entry(group).or_default().push(file);
    }
    Ok(groups.into_values().collect())
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

    #[test]
    fn groups_are_on_one_side() -> Result<()> {
        let model = Tensors::random(&Architecture::tiny(), 1)?;
        let folder = tempfile::tempdir().unwrap();
        let mut table = String::from("file,group\n");
        for (index, tile) in tiles(&model.preprocessor, 3, 24)?.iter().enumerate() {
            tile.image.save(&folder.path().join(format!("{index}.png")))?;
            table += &format!("{index}.png,patient {}\n", index % 6);
        }
        let patient = |file: &ImageFile| -> Option<usize> {
            Some(file.relative_name.strip_suffix(".png")?.parse::<usize>().ok()? % 6)
        };
        let path = folder.path().join(GROUPS);
        std::fs::write(&path, &table).unwrap();
        for seed in 0..10 {
            let Source::Folder { victims, own, .. } = Source::folder(folder.path(), seed)? else { continue };
            assert_eq!((victims.len(), own.len()), (8, 16));
            assert!(victims.iter().all(|victim| own.iter().all(|own| patient(own) != patient(victim))));
        }
        // One patient, whose pictures cannot be divided; a table that lacks pictures.
        for (text, part) in [(table.replace(char::is_numeric, "1"), "names"), ("file,group\n".into(), "rows")]
        {
            std::fs::write(&path, text).unwrap();
            let error = Source::folder(folder.path(), 1).err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.contains("groups.csv")), "{part}");
        }
        Ok(())
    }
}
