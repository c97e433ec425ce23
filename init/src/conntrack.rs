//! What connection tracking tells about itself.

/// How many packets it has called INVALID in this network namespace; none when the kernel does not tell.
pub(crate) fn invalid_packets() -> Option<u64> {
    invalid_in(&std::fs::read_to_string("/proc/self/net/stat/nf_conntrack").ok()?)
}

/// A line of names, and one of hexadecimal numbers for each processor.
fn invalid_in(text: &str) -> Option<u64> {
    let (names, numbers) = text.split_once('\n')?;
    let column = names.split_whitespace().position(|name| name == "invalid")?;
    let number = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    numbers.lines().map(number).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_is_added_up_over_all_processors() {
        let text = "entries  clashres found new invalid ignore\n00000001 00000000 00000000 00000000 0000000a 00000000\n\
            00000001 00000000 00000000 00000000 00000010 00000000\n";
        assert_eq!(invalid_in(text), Some(26));
        assert_eq!(invalid_in("entries found\n00000001 00000000\n"), None);
        assert_eq!(invalid_in("entries invalid\n00000001\n"), None);
        assert_eq!(invalid_in(""), None);
    }
}
