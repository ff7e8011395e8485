//! What QEMU's command line says of memory and acceleration, and what has to be added for a device over
//! vhost-user, which reads the guest's memory: it has to be shared.

use std::ffi::OsString;

use crate::usage::UsageError;

/// What QEMU takes where nothing is said.
const DEFAULT_SIZE: &str = "128M";
/// The memory back end that is added.
const OURS: &str = "arcbox-memory";

/// A memory back end of the command line.
struct Backend {
    id: String,
    is_shared: bool,
}

/// What a command line says.
#[derive(Default)]
struct Said {
    /// `-m`, as `-object` takes it.
    size: Option<String>,
    backends: Vec<Backend>,
    /// Back ends that are the machine's memory.
    main: Vec<String>,
    /// Those of memory devices.
    plugged: Vec<String>,
    /// `-mem-path`, which is not shared.
    mem_path: bool,
    kvm: bool,
}

/// The arguments that have to be added for the guest's memory to be shared: none, where it is.
///
/// # Errors
/// Where the command line wants it otherwise, or does not say which memory is meant.
pub(super) fn shared_memory(arguments: &[OsString]) -> Result<Vec<String>, UsageError> {
    let said = read(arguments);
    for id in said.main.iter().chain(&said.plugged) {
        let named = said.backends.iter().find(|it| it.id == *id);
        // One that is not there is QEMU's to refuse.
        if named.is_some_and(|it| !it.is_shared) {
            return Err(not_shared(id));
        }
    }
    if !said.main.is_empty() {
        return Ok(Vec::new());
    }
    if said.mem_path {
        return Err(UsageError::new(
            "--vhost-user: the memory of QEMU's -mem-path is not shared: use -object \
             memory-backend-file,id=ID,size=SIZE,mem-path=PATH,share=on -machine memory-backend=ID",
        ));
    }
    let mut free = said
        .backends
        .iter()
        .filter(|it| !said.plugged.contains(&it.id));
    let machine = |id: &str| vec!["-machine".to_owned(), format!("memory-backend={id}")];
    match (free.next(), free.next()) {
        (None, _) => {
            let size = said.size.as_deref().unwrap_or(DEFAULT_SIZE);
            let object = format!("memory-backend-memfd,id={OURS},size={size},share=on");
            let mut added = vec!["-object".to_owned(), object];
            added.extend(machine(OURS));
            Ok(added)
        }
        (Some(one), None) if one.is_shared => Ok(machine(&one.id)),
        (Some(one), None) => Err(not_shared(&one.id)),
        (Some(one), Some(two)) => Err(UsageError::new(format!(
            "--vhost-user: which is the machine's memory, `{}` or `{}`? Say so with -machine \
             memory-backend=ID",
            one.id, two.id
        ))),
    }
}

fn not_shared(id: &str) -> UsageError {
    UsageError::new(format!(
        "--vhost-user: the memory `{id}` is not shared: its -object needs share=on, and a file or \
         a memfd behind it"
    ))
}

/// Interrupt vectors of a device with so many pairs of queues: one for each queue, the control queue
/// and the configuration.
///
/// Without KVM there are none: QEMU 7.2 ends with a segmentation fault when a driver starts a
/// vhost-user device with some, by its code in an array that it makes for KVM alone.
pub(super) fn vectors(arguments: &[OsString], pairs: u16) -> u32 {
    match read(arguments).kvm {
        true => 2 * u32::from(pairs) + 2,
        false => 0,
    }
}

/// Which of QEMU's other options take a value is not known here: one that is nothing but `-m`, say, is taken
/// for an option. QEMU then refuses memory of another size than the machine's.
fn read(arguments: &[OsString]) -> Said {
    let mut said = Said::default();
    let mut words = arguments.iter().map(|it| it.to_string_lossy());
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix('-') else {
            continue;
        };
        // QEMU takes two dashes for one.
        let option = option.strip_prefix('-').unwrap_or(option);
        match option {
            "enable-kvm" => said.kvm = true,
            "mem-path" => said.mem_path = true,
            "m" | "object" | "machine" | "M" | "numa" | "device" | "accel" => {
                if let Some(value) = words.next() {
                    said.option(option, &value);
                }
            }
            _ => {}
        }
    }
    said
}

impl Said {
    fn option(&mut self, option: &str, value: &str) {
        let fields = fields(value);
        let first = fields.first().map_or("", |(key, _)| key.as_str());
        let named = |key: &str| {
            let found = fields.iter().rev().find(|(it, _)| it == key);
            found.map(|(_, value)| value.clone())
        };
        match option {
            "m" => {
                let bare = fields.first().filter(|(_, value)| value.is_empty());
                let size = named("size").or(bare.map(|(size, _)| size.clone()));
                self.size = size.map(in_mebibytes).or(self.size.take());
            }
            "object" => {
                let kind = named("qom-type").unwrap_or_else(|| first.to_owned());
                if let Some(of) = kind.strip_prefix("memory-backend-") {
                    let by_itself = matches!(of, "memfd" | "shm");
                    let share = named("share").map(|value| is_on(&value));
                    self.backends.push(Backend {
                        id: named("id").unwrap_or_default(),
                        is_shared: share.unwrap_or(by_itself),
                    });
                }
            }
            "machine" | "M" => {
                self.main.extend(named("memory-backend"));
                self.kvm |= named("accel").is_some_and(|it| it.starts_with("kvm"));
            }
            "numa" => self.main.extend(named("memdev")),
            "device" => self.plugged.extend(named("memdev")),
            _ => self.kvm |= first == "kvm" || named("accel").is_some_and(|it| it == "kvm"),
        }
    }
}

/// `KEY=VALUE,...` or a JSON object, by key; a word without `=` is a key without a value. A comma
/// within a value is written twice.
fn fields(text: &str) -> Vec<(String, String)> {
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(text) {
        let plain = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let pairs = object.into_iter();
        return pairs.map(|(key, value)| (key, plain(value))).collect();
    }
    let text = text.replace(",,", "\0");
    let pairs = text.split(',').map(|field| {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        (key.replace('\0', ","), value.replace('\0', ","))
    });
    pairs.collect()
}

/// QEMU's words for yes.
fn is_on(value: &str) -> bool {
    matches!(value, "on" | "yes" | "true" | "y")
}

/// Bare numbers of `-m` are MiB, those of an object bytes.
fn in_mebibytes(size: String) -> String {
    let is_bare = size
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_bare { size + "M" } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(Into::into).collect()
    }

    fn added(line: &str) -> Result<String, String> {
        let added = shared_memory(&words(line)).map_err(|err| err.to_string())?;
        Ok(added.join(" "))
    }

    #[test]
    fn memory_of_the_size_that_is_said() {
        for (line, size) in [
            ("disk.img", "128M"),
            ("-m 512", "512M"),
            ("--m 1.5", "1.5M"),
            ("-m 1G disk.img", "1G"),
            ("-m 320 -m 1024", "1024M"),
            ("-m size=2G,slots=2,maxmem=4G", "2G"),
            ("-m 2048,slots=2,maxmem=4G", "2048M"),
            ("-m 1G -m slots=2,maxmem=4G", "1G"),
        ] {
            let expected = format!(
                "-object memory-backend-memfd,id=arcbox-memory,size={size},share=on \
                 -machine memory-backend=arcbox-memory"
            );
            assert_eq!(added(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn shared_memory_that_is_there_is_taken() {
        for (line, expected) in [
            (
                "-object memory-backend-file,id=a,mem-path=/x,,y,share=on,size=1G",
                "-machine memory-backend=a",
            ),
            (
                "-object memory-backend-memfd,id=a,size=1G",
                "-machine memory-backend=a",
            ),
            (
                "-object {\"qom-type\":\"memory-backend-file\",\"id\":\"a\",\"share\":true}",
                "-machine memory-backend=a",
            ),
            (
                "-M q35,memory-backend=a -object memory-backend-file,share=yes,id=a",
                "",
            ),
            (
                "-numa node,memdev=a -object memory-backend-file,id=a,share=on \
                 -numa node,memdev=b -object memory-backend-memfd,id=b",
                "",
            ),
            (
                "-object memory-backend-memfd,id=a -device pc-dimm,memdev=a \
                 -object memory-backend-memfd,id=b",
                "-machine memory-backend=b",
            ),
            // QEMU's to refuse.
            ("-machine memory-backend=nobody", ""),
        ] {
            assert_eq!(added(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn memory_that_cannot_be_shared_is_refused_in_words() {
        for (line, says) in [
            ("-object memory-backend-file,id=a,mem-path=/x", "`a`"),
            ("-object memory-backend-memfd,id=a,share=off", "`a`"),
            (
                "-machine memory-backend=r -object memory-backend-ram,id=r",
                "`r`",
            ),
            ("-numa node,memdev=r -object memory-backend-ram,id=r", "`r`"),
            (
                "-device nvdimm,memdev=d -object memory-backend-file,id=d -m 1G",
                "`d`",
            ),
            ("-mem-path /dev/hugepages -m 1G", "-mem-path"),
            (
                "-object memory-backend-memfd,id=a -object memory-backend-memfd,id=b",
                "`a` or `b`",
            ),
        ] {
            let error = added(line).expect_err(line);
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn vectors_are_for_kvm() {
        for line in [
            "-enable-kvm",
            "-accel kvm",
            "-accel kvm,kernel-irqchip=on",
            "-machine q35,accel=kvm:tcg",
            "--accel accel=kvm",
        ] {
            assert_eq!(vectors(&words(line), 2), 6, "{line}");
        }
        for line in ["", "-accel tcg", "-M accel=tcg", "-cpu kvm64"] {
            assert_eq!(vectors(&words(line), 2), 0, "{line}");
        }
    }
}
