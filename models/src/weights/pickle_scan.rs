//! What a pickle would build, found out before it is built.
//!
//! A pickle is a small program. One of a hundred bytes can ask for more objects than memory holds, by doubling what it
//! remembered, or for objects nested so deeply that freeing them overflows the stack. This goes through the program
//! with sizes in place of objects.

use std::collections::HashMap;

/// Objects and bytes of text that a pickle may build, copies included. Our choice: the state dict of a thousand
/// tensors takes a twentieth of it, and all of it is some hundred megabytes.
const MOST_BUILT: usize = 1 << 22;

/// How deeply objects may lie in each other. Our choice: state dicts take about ten levels.
const DEEPEST: usize = 64;

/// The most bytes of a whole number: it must fit 64 bits.
const LONGEST_NUMBER: usize = 8;

/// Refuses a pickle that would build too much.
///
/// # Errors
/// What it would do, or why it cannot be read, in words.
pub(super) fn scan(pickle: &[u8]) -> Result<(), String> {
    let mut scan = Scan { rest: pickle, stack: Vec::new(), memo: HashMap::new(), built: 0 };
    while scan.step()? {}
    Ok(())
}

/// An object's size: itself, its text, and all that lies in it; and how deep that goes.
#[derive(Clone, Copy)]
struct Extent {
    built: usize,
    depth: usize,
}

impl Extent {
    const LEAF: Self = Self { built: 1, depth: 1 };
}

/// What lies on the stack: an object, or the mark that the parts of a collection follow.
#[derive(Clone, Copy)]
enum Entry {
    Object(Extent),
    Mark,
}

struct Scan<'a> {
    rest: &'a [u8],
    stack: Vec<Entry>,
    memo: HashMap<u32, Extent>,
    built: usize,
}

impl Scan<'_> {
    /// Goes through one instruction; false behind the last one.
    fn step(&mut self) -> Result<bool, String> {
        let [instruction] = self.bytes::<1>()?;
        match instruction {
            b'.' => return Ok(false),
            // The version of the format.
            0x80 => drop(self.take(1)?),
            b'c' => {
                let text = self.line()? + self.line()?;
                self.build(Extent { built: 1 + text, depth: 1 })?;
            }
            b'X' => {
                let length = u32::from_le_bytes(self.bytes()?) as usize;
                self.take(length)?;
                self.build(Extent { built: 1 + length, depth: 1 })?;
            }
            0x8a => {
                let length = usize::from(self.bytes::<1>()?[0]);
                if length > LONGEST_NUMBER {
                    return Err(format!("it holds a number of {length} bytes"));
                }
                self.leaf(length)?;
            }
            b'K' => self.leaf(1)?,
            b'M' => self.leaf(2)?,
            b'J' => self.leaf(4)?,
            b'G' => self.leaf(8)?,
            b'N' | 0x88 | 0x89 | b')' | b']' | b'}' => self.leaf(0)?,
            b'(' => self.stack.push(Entry::Mark),
            b'Q' | 0x85 => self.wrap(1)?,
            0x86 | b'R' | 0x81 | b'b' => self.wrap(2)?,
            0x87 => self.wrap(3)?,
            b't' => {
                let parts = self.above_mark()?;
                self.charge(1)?;
                self.hold(Extent::LEAF, &parts)?;
            }
            b'a' => self.extend(1)?,
            b's' => self.extend(2)?,
            b'e' | b'u' => {
                let parts = self.above_mark()?;
                let collection = self.pop()?;
                self.hold(collection, &parts)?;
            }
            b'q' => {
                let [key] = self.bytes::<1>()?;
                self.remember(u32::from(key))?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.bytes()?);
                self.remember(key)?;
            }
            b'h' => {
                let [key] = self.bytes::<1>()?;
                self.recall(u32::from(key))?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.bytes()?);
                self.recall(key)?;
            }
            unknown => {
                return Err(format!("it holds the instruction {unknown:#04x}, which is not known"));
            }
        }
        Ok(true)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("it is cut short")?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or("it is cut short")?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The length of a line, which is passed over.
    fn line(&mut self) -> Result<usize, String> {
        let length = self.rest.iter().position(|&byte| byte == b'\n').ok_or("it is cut short")?;
        self.take(length + 1)?;
        Ok(length)
    }

    fn leaf(&mut self, bytes: usize) -> Result<(), String> {
        self.take(bytes)?;
        self.build(Extent::LEAF)
    }

    fn pop(&mut self) -> Result<Extent, String> {
        match self.stack.pop() {
            Some(Entry::Object(extent)) => Ok(extent),
            _ => Err("it takes an object that is not there".into()),
        }
    }

    fn above_mark(&mut self) -> Result<Vec<Extent>, String> {
        let mut parts = Vec::new();
        loop {
            match self.stack.pop() {
                Some(Entry::Object(extent)) => parts.push(extent),
                Some(Entry::Mark) => return Ok(parts),
                None => return Err("it ends a collection that it never began".into()),
            }
        }
    }

    /// Puts the last `count` objects into a new one.
    fn wrap(&mut self, count: usize) -> Result<(), String> {
        let parts = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        self.charge(1)?;
        self.hold(Extent::LEAF, &parts)
    }

    /// Puts the last `count` objects into the one before them.
    fn extend(&mut self, count: usize) -> Result<(), String> {
        let parts = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        let collection = self.pop()?;
        self.hold(collection, &parts)
    }

    fn hold(&mut self, mut holder: Extent, parts: &[Extent]) -> Result<(), String> {
        for part in parts {
            holder.built += part.built;
            holder.depth = holder.depth.max(part.depth + 1);
        }
        if holder.depth > DEEPEST {
            return Err(format!("its objects are nested more than {DEEPEST} deep"));
        }
        self.stack.push(Entry::Object(holder));
        Ok(())
    }

    fn build(&mut self, extent: Extent) -> Result<(), String> {
        self.charge(extent.built)?;
        self.stack.push(Entry::Object(extent));
        Ok(())
    }

    /// Remembering copies the object, and so does recalling it.
    fn remember(&mut self, key: u32) -> Result<(), String> {
        let object = self.pop()?;
        self.charge(object.built)?;
        self.stack.push(Entry::Object(object));
        self.memo.insert(key, object);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), String> {
        let object = *self.memo.get(&key).ok_or("it recalls an object that it never stored")?;
        self.build(object)
    }

    fn charge(&mut self, built: usize) -> Result<(), String> {
        self.built += built;
        if self.built > MOST_BUILT {
            return Err(format!("it would build more than {MOST_BUILT} objects and letters"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tuple_that_doubles_itself_is_refused() {
        // An empty tuple, remembered; then thirty times: recall it twice, pair the two, remember the pair.
        let doubling = |times| [&b")q\0"[..], &b"h\0h\0\x86q\0".repeat(times), b"."].concat();
        assert_eq!(scan(&doubling(10)), Ok(()));
        assert!(doubling(30).len() < 250);
        assert!(scan(&doubling(30)).unwrap_err().contains("would build more"));
        // So is what a collection takes in, and then copies.
        let growing = [&b"]q\0"[..], &b"h\0aq\0".repeat(40), b"."].concat();
        assert!(scan(&growing).unwrap_err().contains("would build more"));
    }

    #[test]
    fn nesting_is_limited_whatever_nests() {
        let nested = |wrap: &[u8], times| [&b"N"[..], &wrap.repeat(times), b"."].concat();
        for wrap in [&b"\x85"[..], b"Q", b"NR", b"Nb", b"N\x81"] {
            assert_eq!(scan(&nested(wrap, DEEPEST - 1)), Ok(()), "{wrap:?}");
            let error = scan(&nested(wrap, 100_000)).unwrap_err();
            assert!(error.contains("nested"), "{wrap:?}: {error}");
        }
        let marks = [&b"(".repeat(100_000)[..], &b"t".repeat(100_000), b"."].concat();
        assert!(scan(&marks).unwrap_err().contains("nested"));
        let flat = [&b"]"[..], &b"Na".repeat(100_000), b"."].concat();
        assert_eq!(scan(&flat), Ok(()));
    }

    #[test]
    fn numbers_beyond_64_bits_are_refused() {
        assert_eq!(scan(b"\x8a\x0812345678."), Ok(()));
        assert!(scan(b"\x8a\x09123456789.").unwrap_err().contains("9 bytes"));
    }

    #[test]
    fn what_promises_more_than_it_has_is_refused() {
        for pickle in [&b""[..], b"X\xff\xff\xff\xffabc.", b"cmodule\nclass", b"J12", b"N"] {
            assert_eq!(scan(pickle), Err("it is cut short".into()), "{pickle:?}");
        }
        for pickle in [&b"\x85."[..], b"(\x85.", b"t.", b"h\0.", b"q\0.", b"\xff."] {
            assert!(scan(pickle).is_err(), "{pickle:?}");
        }
    }
}
