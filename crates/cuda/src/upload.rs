//! Uploads that go on while the device computes.

use crate::backend::Cuda;
use crate::driver::{DevicePtr, Driver, Result};

/// Two page-locked blocks in turn, and a stream for their copies: while the device works on what one brought, the other is filled and
/// copied.
///
/// ```
/// use arras_cuda::counting::CountingDriver;
/// use arras_cuda::upload::Uploads;
/// use arras_cuda::{Cuda, Driver};
///
/// let cuda = Cuda::counting(CountingDriver::h200())?;
/// let (driver, mut uploads) = (cuda.driver(), Uploads::new(&cuda, 4)?);
/// let stream = driver.stream()?;
/// let targets = [driver.allocate(&stream, 4)?, driver.allocate(&stream, 4)?];
/// for image in [[1; 4], [2; 4], [3; 4]] {
///     // SAFETY: the targets hold four bytes each and are not freed.
///     unsafe { uploads.upload(&stream, targets[uploads.turn()], 4, |block| block.copy_from_slice(&image))? };
///     // Launches on `stream` that read the target come here.
///     uploads.used(&stream)?;
/// }
/// let mut found = [0; 4];
/// // SAFETY: as above.
/// unsafe { driver.download(&stream, &mut found, targets[0])? };
/// assert_eq!(found, [3; 4]);
/// # Ok::<(), arras_cuda::DriverError>(())
/// ```
#[derive(Debug)]
pub struct Uploads<D: Driver> {
    cuda: Cuda<D>,
    copies: D::Stream,
    slots: [Slot<D>; 2],
    turn: usize,
}

#[derive(Debug)]
struct Slot<D: Driver> {
    block: D::Pinned,
    /// The block may be filled again.
    copied: D::Event,
    /// The memory that it was copied to may be written again.
    used: D::Event,
}

impl<D: Driver> Uploads<D> {
    /// Two blocks of `bytes` bytes.
    ///
    /// # Errors
    /// Out of memory, and what else the driver refuses.
    pub fn new(cuda: &Cuda<D>, bytes: usize) -> Result<Self> {
        let driver = cuda.driver();
        let slot = || {
            let (copied, used) = (driver.event(false)?, driver.event(false)?);
            Ok::<_, crate::DriverError>(Slot { block: driver.pinned(bytes)?, copied, used })
        };
        let slots = [slot()?, slot()?];
        Ok(Self { cuda: cuda.clone(), copies: driver.stream()?, slots, turn: 0 })
    }

    /// Which of two targets the next upload is for.
    pub fn turn(&self) -> usize {
        self.turn
    }

    /// Fills `bytes` bytes, at most as many as a block has, and queues their copy to `to`; later work of `stream` finds them there.
    ///
    /// # Errors
    /// The driver's; more bytes than a block has.
    ///
    /// # Safety
    /// `to` is good for that many bytes until the uploads are dropped, and what touched them before was queued when
    /// [`used`](Self::used) was last called at this turn.
    pub unsafe fn upload(
        &mut self,
        stream: &D::Stream,
        to: DevicePtr,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        let driver = self.cuda.driver();
        let slot = &mut self.slots[self.turn];
        driver.synchronize_event(&slot.copied)?;
        if let Some(block) = slot.block.as_mut().get_mut(..bytes) {
            fill(block);
        }
        driver.wait(&self.copies, &slot.used)?;
        // SAFETY: the block is changed no sooner than `copied` has passed, and dropped after the stream was waited for; the rest is the
        // caller's.
        unsafe { driver.upload_pinned(&self.copies, to, &slot.block, 0..bytes)? };
        driver.record(&self.copies, &slot.copied)?;
        driver.wait(stream, &slot.copied)
    }

    /// Goes on to the other target. The next upload to this one waits for what `stream` was given so far.
    ///
    /// # Errors
    /// The driver's.
    pub fn used(&mut self, stream: &D::Stream) -> Result<()> {
        self.cuda.driver().record(stream, &self.slots[self.turn].used)?;
        self.turn = 1 - self.turn;
        Ok(())
    }
}

impl<D: Driver> Drop for Uploads<D> {
    fn drop(&mut self) {
        // The copies read the blocks. A driver that cannot wait has lost the device, and with it the copies.
        let _ = self.cuda.driver().synchronize(&self.copies);
    }
}
