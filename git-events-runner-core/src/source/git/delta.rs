//! Changes by which packs store one object as the difference to another.

/// What a change says of the lengths before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    before: u64,
    pub(super) after: u64,
}

const CUT_OFF: &str = "a change that is cut off";

/// The lengths that a change says.
pub(super) fn sizes(change: &[u8]) -> Result<Sizes, &'static str> {
    parse(change).map(|(sizes, _)| sizes)
}

/// Makes an object of another one. It takes as much memory as the change says that there is after it.
pub(super) fn apply(base: &[u8], change: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (sizes, mut rest) = parse(change)?;
    if sizes.before != base.len() as u64 {
        return Err("a change to an object of another length");
    }
    let after = usize::try_from(sizes.after).map_err(|_| "a change to an impossible length")?;
    let mut made = Vec::with_capacity(after);
    while let Some((command, arguments)) = rest.split_first() {
        let piece;
        (piece, rest) = match command {
            0 => return Err("a change with an unknown command"),
            length @ 1..=0x7f => arguments.split_at_checked(usize::from(*length)).ok_or(CUT_OFF)?,
            command => {
                let ((offset, length), rest) = parse_copy(*command, arguments).ok_or(CUT_OFF)?;
                (base.get(offset..offset + length).ok_or("a change that copies what is not there")?, rest)
            }
        };
        if made.len() + piece.len() > after {
            return Err("a change that makes more than it says");
        }
        made.extend_from_slice(piece);
    }
    if made.len() < after { Err("a change that makes less than it says") } else { Ok(made) }
}

/// Where to copy from, and how much: bits of the command say which bytes of these numbers follow.
fn parse_copy(command: u8, mut arguments: &[u8]) -> Option<((usize, usize), &[u8])> {
    let mut numbers = [0_usize; 7];
    for (bit, number) in numbers.iter_mut().enumerate() {
        if command >> bit & 1 == 1 {
            let (first, rest) = arguments.split_first()?;
            (*number, arguments) = (usize::from(*first), rest);
        }
    }
    let joined = |bytes: &[usize]| bytes.iter().rev().fold(0, |number, byte| number << 8 | byte);
    let (offset, length) = (joined(&numbers[..4]), joined(&numbers[4..]));
    Some(((offset, if length == 0 { 0x1_0000 } else { length }), arguments))
}

fn parse(change: &[u8]) -> Result<(Sizes, &[u8]), &'static str> {
    let (before, rest) = number(change)?.ok_or(CUT_OFF)?;
    let (after, rest) = number(rest)?.ok_or(CUT_OFF)?;
    Ok((Sizes { before, after }, rest))
}

/// A number of seven bits a byte, the lowest first, and what follows it; None if it is cut off.
pub(super) fn number(bytes: &[u8]) -> Result<Option<(u64, &[u8])>, &'static str> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if index == 9 {
            return Err("a number that is too large");
        }
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((number, &bytes[index + 1..])));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_copied_and_inserted() {
        let base = b"0123456789".as_slice();
        assert_eq!(apply(base, &[10, 7, 0x91, 2, 3, 2, b'a', b'b', 0x90, 2]).unwrap(), b"234ab01");
        assert_eq!(
            apply(&[b'x'; 0x1_0001], &[0x81, 0x80, 4, 0x80, 0x80, 4, 0x80]).unwrap(),
            [b'x'; 0x1_0000],
            "no length is the longest one"
        );
        assert_eq!(apply(base, &[10, 0]).unwrap(), b"");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let base = b"0123456789".as_slice();
        let changes: [&[u8]; 11] = [
            &[],
            &[10],
            &[0x8a],
            &[9, 1, 1, b'a'],
            &[10, 2, 1, b'a'],
            &[10, 1, 2, b'a', b'b'],
            &[10, 1, 0],
            &[10, 2, 2, b'a'],
            &[10, 1, 0x91, 10, 1],
            &[10, 1, 0x9f, 0xff, 0xff, 0xff, 0xff, 1],
            &[10, 1, 0x91, 1],
        ];
        for change in changes {
            apply(base, change).expect_err(&format!("{change:?}"));
        }
        apply(base, &[[10].as_slice(), &[0xff; 9], &[1]].concat()).unwrap_err();
    }
}
