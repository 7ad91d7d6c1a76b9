//! Kernel addresses to function names, from `/proc/kallsyms`.
//!
//! A drop carries the address of the code that freed the packet. The table holds functions only
//! (some 100,000 of them, a few megabytes), is read when the first address is asked
//! for, and not again: an address in a module loaded later has no name.
//!
//! Limits: with `kernel.kptr_restrict` the kernel shows zeros instead of addresses; that is an
//! error that says what to do, never a wrong name. Names are plain ASCII or are skipped.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    sync::{Mutex, OnceLock, PoisonError},
};

/// The kernel's symbol table.
pub const PATH: &str = "/proc/kallsyms";

/// The largest table read, in bytes: some ten times that of a distribution kernel.
const MAX_SIZE: u64 = 128 << 20;
/// The longest name taken: `KSYM_NAME_LEN`.
const MAX_NAME: usize = 512;
/// How far an address may be behind its symbol, in bytes. No function is that long; what is farther
/// lies in a hole, such as that between the kernel and its modules.
const MAX_OFFSET: u64 = 1 << 20;

/// Why addresses have no names.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// The table is not there or not readable.
    #[error("cannot read {PATH}: {0}; drop locations have no names without it")]
    Read(#[from] io::Error),
    /// The kernel shows zeros.
    #[error(
        "the kernel hides its addresses; for the names of drop locations run with CAP_SYSLOG and \
         set kernel.kptr_restrict to 0 or 1"
    )]
    Hidden,
}

/// Functions by address.
#[derive(Debug, Default)]
pub struct Symbols {
    /// Sorted by address, one for each address.
    functions: Vec<Function>,
    /// The names, end to end: each function's, then its module's.
    text: String,
}

#[derive(Clone, Copy, Debug)]
struct Function {
    address: u64,
    text: u32,
    name: u16,
    module: u16,
}

/// Where in the kernel an address is. Displays as `nf_hook_slow+0x5c` or `ip_vs_in+0x10 [ip_vs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location<'a> {
    /// The function.
    pub function: &'a str,
    /// Bytes from its start.
    pub offset: u64,
    /// The module it is in; `None` for the kernel itself.
    pub module: Option<&'a str>,
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.function, self.offset)?;
        self.module
            .map_or(Ok(()), |module| write!(f, " [{module}]"))
    }
}

impl Symbols {
    /// Reads the running kernel's table.
    ///
    /// # Errors
    /// When it cannot be read or shows no addresses.
    pub fn load() -> Result<Self, SymbolsError> {
        Self::read(File::open(PATH)?)
    }

    fn read(file: File) -> Result<Self, SymbolsError> {
        let mut table = Vec::with_capacity(8 << 20);
        file.take(MAX_SIZE).read_to_end(&mut table)?;
        Self::parse(&table)
    }

    /// Reads a table in the form of `/proc/kallsyms`. Lines of another form are skipped.
    ///
    /// # Errors
    /// When all addresses in it are zero.
    pub fn parse(table: &[u8]) -> Result<Self, SymbolsError> {
        let mut symbols = Self::default();
        let mut hidden = false;
        for line in table.split(|&byte| byte == b'\n') {
            match Line::parse(line) {
                Some(Line { address: 0, .. }) => hidden = true,
                Some(line) => symbols.add(&line),
                None => {}
            }
        }
        if hidden && symbols.functions.is_empty() {
            return Err(SymbolsError::Hidden);
        }
        // Stable: of several names for one address the first stays, as in the kernel's own traces.
        symbols.functions.sort_by_key(|function| function.address);
        symbols.functions.dedup_by_key(|function| function.address);
        Ok(symbols)
    }

    fn add(&mut self, line: &Line<'_>) {
        let (name, module) = (line.name, line.module.unwrap_or_default());
        let lengths = (u16::try_from(name.len()), u16::try_from(module.len()));
        let (Ok(text), (Ok(name_length), Ok(module_length))) =
            (u32::try_from(self.text.len()), lengths)
        else {
            return;
        };
        self.text.push_str(name);
        self.text.push_str(module);
        self.functions.push(Function {
            address: line.address,
            text,
            name: name_length,
            module: module_length,
        });
    }

    /// The function that an address is in.
    #[must_use]
    pub fn locate(&self, address: u64) -> Option<Location<'_>> {
        let after = self.functions.partition_point(|f| f.address <= address);
        let found = self.functions.get(after.checked_sub(1)?)?;
        let offset = address.checked_sub(found.address)?;
        let name = found.text as usize..found.text as usize + usize::from(found.name);
        let module = name.end..name.end + usize::from(found.module);
        (offset < MAX_OFFSET).then_some(Location {
            function: self.text.get(name)?,
            offset,
            module: self.text.get(module).filter(|module| !module.is_empty()),
        })
    }

    /// How many functions have a name.
    #[must_use]
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether no function has a name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }
}

/// One function's line: `ffffffff81000000 T name` with `\t[module]` behind it for a module's.
struct Line<'a> {
    address: u64,
    name: &'a str,
    module: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let (digits, rest) = line.split_at_checked(line.iter().position(|&b| b == b' ')?)?;
        let [b' ', b't' | b'T' | b'w' | b'W', b' ', rest @ ..] = rest else {
            return None;
        };
        if rest.len() > 2 * MAX_NAME {
            return None;
        }
        let mut words = rest.split(|&byte| byte == b'\t');
        let name = plain(words.next()?)?;
        let module = words
            .next()
            .and_then(|word| plain(word.strip_prefix(b"[")?.strip_suffix(b"]")?));
        Some(Self {
            address: hexadecimal(digits)?,
            name,
            module,
        })
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

/// A name that is safe to print.
fn plain(name: &[u8]) -> Option<&str> {
    let sound = !name.is_empty() && name.len() <= MAX_NAME && name.iter().all(u8::is_ascii_graphic);
    str::from_utf8(name).ok().filter(|_| sound)
}

/// The running kernel's table, read when first needed.
///
/// Opened at once: whether addresses are shown is decided then, by the privileges that the process
/// has at that time (`kallsyms_open`).
#[derive(Debug)]
pub struct LazySymbols {
    file: Mutex<Option<io::Result<File>>>,
    read: OnceLock<Result<Symbols, SymbolsError>>,
}

impl LazySymbols {
    /// The table, open and not read yet.
    #[must_use]
    pub fn open() -> Self {
        Self {
            file: Mutex::new(Some(File::open(PATH))),
            read: OnceLock::new(),
        }
    }

    /// The table, read by the first caller.
    ///
    /// # Errors
    /// Why there is none, the same each time.
    pub fn get(&self) -> Result<&Symbols, &SymbolsError> {
        let read = || {
            let file = self
                .file
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            // This is called once.
            Symbols::read(file.unwrap_or_else(|| File::open(PATH))?)
        };
        self.read.get_or_init(read).as_ref()
    }

    /// The function that an address is in; `None` too when there is no table.
    #[must_use]
    pub fn locate(&self, address: u64) -> Option<Location<'_>> {
        self.get().ok()?.locate(address)
    }

    /// The same for people, as `ip_rcv+0x10`.
    #[must_use]
    pub fn name(&self, address: u64) -> Option<String> {
        self.locate(address).map(|location| location.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &[u8] = b"\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 t ip_rcv
ffffffff81000200 D some_data
ffffffffc0000200 t ip_vs_out\t[ip_vs]
ffffffffc0000100 t ip_vs_in\t[ip_vs]
ffffffffc0000080 w weak\t[odd
";

    fn located(symbols: &Symbols, address: u64) -> Option<String> {
        Some(symbols.locate(address)?.to_string())
    }

    #[test]
    fn an_address_is_in_the_function_before_it() {
        let symbols = Symbols::parse(TABLE).unwrap();
        let at = |address| located(&symbols, address);
        assert_eq!(at(0xffff_ffff_8100_0000).as_deref(), Some("_stext+0x0"));
        assert_eq!(at(0xffff_ffff_8100_00ff).as_deref(), Some("_stext+0xff"));
        assert_eq!(at(0xffff_ffff_8100_0204).as_deref(), Some("ip_rcv+0x104"));
        assert_eq!(
            at(0xffff_ffff_c000_0110).as_deref(),
            Some("ip_vs_in+0x10 [ip_vs]")
        );
        assert_eq!(at(0xffff_ffff_c000_0081).as_deref(), Some("weak+0x1"));
        assert_eq!(symbols.len(), 5);
    }

    #[test]
    fn an_address_in_a_hole_has_no_name() {
        let symbols = Symbols::parse(TABLE).unwrap();
        assert_eq!(located(&symbols, 0), None);
        assert_eq!(located(&symbols, 0xffff_ffff_9000_0000), None);
        assert_eq!(located(&symbols, u64::MAX), None);
    }

    #[test]
    fn hidden_addresses_are_an_error_that_names_the_setting() {
        let table = b"0000000000000000 T _stext\n0000000000000000 t ip_rcv\n";
        let error = Symbols::parse(table).unwrap_err().to_string();
        assert!(error.contains("kernel.kptr_restrict"), "{error}");
        assert!(Symbols::parse(b"").unwrap().is_empty());
    }

    #[test]
    fn names_with_control_characters_and_endless_lines_are_skipped() {
        let mut table = b"ffffffff81000000 T a\x1b[31m\nffffffff81000000 T ".to_vec();
        table.extend(std::iter::repeat_n(b'a', 1 << 20));
        assert!(Symbols::parse(&table).unwrap().is_empty());
    }

    #[test]
    fn the_running_kernel_has_functions() {
        let symbols = LazySymbols::open();
        match symbols.get() {
            Err(error) => println!("skipped: {error}"),
            Ok(table) => {
                assert!(table.len() > 1000);
                let first = table.functions[0].address;
                assert!(symbols.locate(first).is_some_and(|found| found.offset == 0));
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_a_table(text in prop::collection::vec(any::<u8>(), 0..300), address: u64) {
            if let Ok(symbols) = Symbols::parse(&text) {
                let _ = symbols.locate(address);
            }
        }

        #[test]
        fn every_function_is_found_at_its_address(
            functions in prop::collection::btree_map(1..u64::MAX, "[a-z_][a-z0-9_.]{0,20}", 1..40),
        ) {
            let lines = functions.iter().rev().map(|(a, name)| format!("{a:016x} t {name}\n"));
            let symbols = Symbols::parse(lines.collect::<String>().as_bytes()).unwrap();
            for (&address, name) in &functions {
                let found = symbols.locate(address).unwrap();
                prop_assert_eq!((found.function, found.offset), (&name[..], 0));
            }
        }
    }
}
