//! Models in several files, named `NAME-00001-of-00003.gguf` and so on.
//!
//! Every part is a GGUF file of its own. It says which part it is in `split.no` (from 0), how many
//! there are in `split.count`, and how many tensors all parts hold in `split.tensors.count`. The
//! model's metadata are those of the first part.

use std::path::{Path, PathBuf};

use crate::Result;

use super::fault::{At, Fault, Parsed};
use super::limits::MAX_PARTS;
use super::part::{Part, add_tensor, place_of_key, place_of_tensor};
use super::table::Table;
use super::tensor_info::TensorInfo;

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS_COUNT: &str = "split.tensors.count";

/// The keys that make a file a part of a split set.
pub(super) const KEYS: [&str; 3] = [NO, COUNT, TENSORS_COUNT];

/// Opens the file at `path` and, if it is a part of a split set, all others.
pub(super) fn open_all(path: &Path) -> Result<Vec<Part>> {
    let opened = Part::open(path, 0)?;
    let count = count(&opened)?;
    if count <= 1 {
        return Ok(vec![opened]);
    }
    let names = Names::of(path, count).at(|| format!("{}: file name", opened.name))?;
    let mut parts = Vec::new();
    for index in 0..count {
        let index = index as usize;
        // The file opened first is parsed again in its turn: a header costs little.
        let part = Part::open(&names.part(index), index)?;
        check_part(&part, index, count)?;
        parts.push(part);
    }
    Ok(parts)
}

/// Fails if the part is not a whole model.
pub(super) fn check_single(part: &Part) -> Result<()> {
    match count(part)? {
        0..=1 => Ok(()),
        count => Err(Fault::unsupported(
            format!("one part of {count} from memory"),
            "split models opened by their path, or joined into one file",
        ))
        .at(|| place_of_key(&part.name, COUNT)),
    }
}

/// The tensors of all parts in order, each name once.
pub(super) fn join_tensors(parts: &mut [Part]) -> Result<Table<TensorInfo>> {
    let mut all = Table::new();
    for part in parts.iter_mut() {
        let tensors = std::mem::replace(&mut part.tensors, Table::new());
        for tensor in tensors.into_items() {
            let name = tensor.shared_name();
            add_tensor(&mut all, tensor).at(|| place_of_tensor(&part.name, &name))?;
        }
    }
    if let [first, _, ..] = parts
        && let Some(expected) = first.optional::<u64>(TENSORS_COUNT)?
        && usize::try_from(expected) != Ok(all.items().len())
    {
        let found = format!("{} in all parts", all.items().len());
        return Err(Fault::malformed(format!("{expected} tensors"), found))
            .at(|| place_of_key(&first.name, TENSORS_COUNT));
    }
    Ok(all)
}

fn count(part: &Part) -> Result<u64> {
    let count = part.optional::<u64>(COUNT)?.unwrap_or(1);
    Fault::check_limit(count, MAX_PARTS).at(|| place_of_key(&part.name, COUNT))?;
    Ok(count)
}

/// A part must say of itself what its name and the other parts say.
fn check_part(part: &Part, index: usize, parts: u64) -> Result<()> {
    for (key, expected) in [(NO, index as u64), (COUNT, parts)] {
        let found = part.optional::<u64>(key)?;
        if found != Some(expected) {
            let found = found.map_or("no such key".to_owned(), |found| found.to_string());
            return Err(Fault::malformed(expected.to_string(), found))
                .at(|| place_of_key(&part.name, key));
        }
    }
    Ok(())
}

/// The file names of a split set.
struct Names {
    folder: PathBuf,
    prefix: String,
    count: u64,
}

impl Names {
    /// From the path of any part; the name must end as those of split sets do.
    fn of(path: &Path, count: u64) -> Parsed<Names> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ending = format!("-of-{count:05}.gguf");
        let prefix = name.strip_suffix(ending.as_str()).and_then(|rest| {
            let (prefix, number) = rest.rsplit_once('-')?;
            let digits = number.len() == 5 && number.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| prefix.to_owned())
        });
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        match prefix {
            Some(prefix) => Ok(Names {
                folder,
                prefix,
                count,
            }),
            None => Err(Fault::malformed(
                format!("the name of one part of {count}, such as NAME-00001{ending}"),
                format!("`{}`", name.escape_debug()),
            )),
        }
    }

    fn part(&self, index: usize) -> PathBuf {
        let Names {
            folder,
            prefix,
            count,
        } = self;
        folder.join(format!(
            "{prefix}-{:05}-of-{count:05}.gguf",
            index.saturating_add(1)
        ))
    }
}
