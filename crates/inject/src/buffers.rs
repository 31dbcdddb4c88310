//! The buffers that CUPTI fills with records.
//!
//! A program's launching thread may wait while a buffer is made ready, so buffers are handed out zeroed and are used
//! again: a returned buffer is zeroed by the thread that returns it, which is CUPTI's own.

/// Bytes of a buffer: some 10,000 kernels.
pub const BUFFER_BYTES: usize = 2 << 20;
/// Buffers kept for use again; more are freed when they come back.
const KEPT: usize = 8;
/// Most buffers at CUPTI at a time (128 MiB); beyond, records are dropped and counted.
const MOST_OUT: usize = 64;

/// A buffer, aligned to 8 bytes as CUPTI asks.
pub type Buffer = Box<[u64]>;

fn fresh() -> Buffer {
    vec![0; BUFFER_BYTES / size_of::<u64>()].into_boxed_slice()
}

/// The buffers that are not at CUPTI.
pub struct Pool {
    free: Vec<Buffer>,
    out: usize,
}

impl Pool {
    /// An empty pool.
    pub const fn new() -> Self {
        Self { free: Vec::new(), out: 0 }
    }

    /// Makes a few buffers, and has the kernel back them with memory.
    pub fn prepare(&mut self) {
        while self.free.len() < 2 {
            let mut buffer = fresh();
            buffer.iter_mut().step_by(512).for_each(|word| {
                // SAFETY: a plain store to memory that is owned; volatile so that it really touches the page.
                unsafe { std::ptr::write_volatile(word, 0) }
            });
            self.free.push(buffer);
        }
    }

    /// Hands a buffer out; `None` when too many are out.
    pub fn take(&mut self) -> Option<*mut u8> {
        if self.out >= MOST_OUT {
            return None;
        }
        self.out += 1;
        let buffer = self.free.pop().unwrap_or_else(fresh);
        Some(Box::into_raw(buffer).cast())
    }

    /// Keeps a buffer that has come back, or frees it when enough are kept.
    pub fn keep(&mut self, buffer: Buffer) {
        self.out = self.out.saturating_sub(1);
        if self.free.len() < KEPT {
            self.free.push(buffer);
        }
    }
}

/// Takes over a buffer that has come back, and zeroes it. This takes a while, so it is done without holding the pool,
/// which a launching thread may be waiting for.
///
/// # Safety
/// It came from [`Pool::take`] and was not taken over since.
pub unsafe fn take_over(buffer: *mut u8) -> Buffer {
    let words = std::ptr::slice_from_raw_parts_mut(buffer.cast::<u64>(), BUFFER_BYTES / size_of::<u64>());
    // SAFETY: `take` made this pointer from a box of just this many words.
    let mut buffer = unsafe { Box::from_raw(words) };
    buffer.fill(0);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_zeroed_and_are_bounded() {
        let mut pool = Pool::new();
        pool.prepare();
        let taken: Vec<*mut u8> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken.len(), MOST_OUT);
        for &buffer in &taken {
            assert_eq!(buffer as usize % 8, 0);
            // SAFETY: owned here until given back, and of this size.
            let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, BUFFER_BYTES) };
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(0xff);
        }
        for buffer in taken {
            // SAFETY: taken above, taken over once.
            pool.keep(unsafe { take_over(buffer) });
        }
        assert_eq!(pool.free.len(), KEPT);
        let again = pool.take().unwrap();
        // SAFETY: as above.
        assert!(unsafe { std::slice::from_raw_parts(again, BUFFER_BYTES) }.iter().all(|&byte| byte == 0));
        // SAFETY: taken above, taken over once.
        pool.keep(unsafe { take_over(again) });
    }
}
