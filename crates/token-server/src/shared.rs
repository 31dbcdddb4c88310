//! Several servers of one machine that take each other for users of one GPU.

use crate::truth::now_ns;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Most servers at one GPU.
pub const SEATS: u32 = 64;
/// Between two iterations an engine counts as busy for so long, ns: it takes that to hand out tokens.
const GRACE_NS: u64 = 1_000_000;

/// Seats at a GPU, in a file that the servers at it share: each writes down until when its iteration lasts. No lock and
/// nothing to clean up: a server that is gone is busy no longer.
#[derive(Debug)]
pub struct SharedGpu {
    file: File,
    seat: u32,
}

impl SharedGpu {
    /// Takes the seat with this number (from 0) at the GPU behind `path`, which is made where it is absent.
    ///
    /// # Errors
    /// A number from [`SEATS`] on, or a file that cannot be opened.
    pub fn join(path: &Path, seat: u32) -> io::Result<SharedGpu> {
        if seat >= SEATS {
            let why = format!("seat {seat}: a GPU has the seats 0 to {}", SEATS - 1);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(SharedGpu { file, seat })
    }

    /// How many others have an iteration under way.
    pub fn others_busy(&self) -> u32 {
        let mut all = [0u8; SEATS as usize * 8];
        // Seats behind the end of the file were never taken; a file that cannot be read any more has no others.
        let read = self.file.read_at(&mut all, 0).unwrap_or(0);
        let now = now_ns();
        let mut others = 0;
        for (seat, bytes) in all[..read].chunks_exact(8).enumerate() {
            let until = u64::from_le_bytes(<[u8; 8]>::try_from(bytes).unwrap_or_default());
            others += u32::from(seat != self.seat as usize && until.saturating_add(GRACE_NS) > now);
        }
        others
    }

    /// Says that this server is busy until then.
    pub fn busy_until(&self, until_ns: u64) {
        // The others then take it for idle, which no server should fail for.
        let _ = self.file.write_at(&until_ns.to_le_bytes(), u64::from(self.seat) * 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_see_each_other_while_they_are_busy() -> io::Result<()> {
        let path = std::env::temp_dir().join(format!("cotenant-seats-{}", std::process::id()));
        let (a, b) = (SharedGpu::join(&path, 0)?, SharedGpu::join(&path, 63)?);
        assert_eq!((a.others_busy(), b.others_busy()), (0, 0));
        a.busy_until(now_ns() + 60_000_000_000);
        assert_eq!((a.others_busy(), b.others_busy()), (0, 1));
        b.busy_until(now_ns() + 60_000_000_000);
        assert_eq!((a.others_busy(), b.others_busy()), (1, 1));
        a.busy_until(now_ns() - 2 * GRACE_NS);
        assert_eq!(b.others_busy(), 0);
        let wrong = SharedGpu::join(&path, SEATS).map(drop);
        assert!(wrong.is_err_and(|e| e.to_string().contains("0 to 63")));
        std::fs::remove_file(path)
    }
}
