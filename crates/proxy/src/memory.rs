//! Free memory goes back to the system once there is less to do.

/// Watches how busy a worker is.
#[derive(Debug, Default)]
pub(crate) struct Ebb {
    /// The most connections since memory was given back.
    most: usize,
    /// Whether the last look was at an ebb.
    was_ebbing: bool,
}

impl Ebb {
    /// Takes how many connections are open now; true if that is half of what it was, or less: what the
    /// others needed is free then, and the allocator would keep it. True at the next look, too, as some
    /// of it is let go only after the connections have ended.
    pub(crate) fn came(&mut self, connections: usize) -> bool {
        self.most = self.most.max(connections);
        let ebbed = connections <= self.most / 2 && self.most > 0;
        if ebbed {
            self.most = connections;
        }
        std::mem::replace(&mut self.was_ebbing, ebbed) || ebbed
    }
}

/// Has the allocator give free pages back, of all threads. Takes milliseconds where there are many.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the allocator is glibc's, and has no other interface")]
    // SAFETY: malloc_trim(3) takes a number, may be called at any time and by any thread, and touches
    // only memory that is free.
    unsafe {
        libc::malloc_trim(KEPT_BYTES);
    }
}

/// What each heap keeps at its top, for what comes next.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_half_of_the_connections_have_gone() {
        let mut ebb = Ebb::default();
        let came = [0, 10, 20, 11, 10, 9, 5, 4, 0, 0, 1, 0].map(|open| ebb.came(open));
        let expected = [4, 5, 6, 7, 8, 9, 11];
        let given = (0..came.len()).filter(|at| came[*at]).collect::<Vec<_>>();
        assert_eq!(given, expected, "{came:?}");
    }
}
