/**
 * Numbers of the io_uring interface, named as in `linux/io_uring.h`.
 *
 * @module
 */

// --- operations ------------------------------------------------------------

/** Does nothing. */
export const IORING_OP_NOP = 0;
/** `preadv2(2)`: address of iovecs, their number. */
export const IORING_OP_READV = 1;
/** `pwritev2(2)`: address of iovecs, their number. */
export const IORING_OP_WRITEV = 2;
/** `fsync(2)`, or `fdatasync(2)` with {@linkcode IORING_FSYNC_DATASYNC}. */
export const IORING_OP_FSYNC = 3;
/** `poll(2)` of one descriptor; the events are the operation's flags. */
export const IORING_OP_POLL_ADD = 6;
/** Ends a poll; the address is its user data. */
export const IORING_OP_POLL_REMOVE = 7;
/** Ends after a time, or after as many completions as the offset says. */
export const IORING_OP_TIMEOUT = 11;
/** Ends requests; the address is their user data. */
export const IORING_OP_ASYNC_CANCEL = 14;
/** Limits the time of the request that is linked before it. */
export const IORING_OP_LINK_TIMEOUT = 15;
/**
 * `fallocate(2)`: offset, the length of the range in place of the address, the
 * mode in place of the length.
 */
export const IORING_OP_FALLOCATE = 17;
/** `pread(2)`: address of memory, its length. */
export const IORING_OP_READ = 22;
/** `pwrite(2)`: address of memory, its length. */
export const IORING_OP_WRITE = 23;

/** In the operation flags of `FSYNC`: as `fdatasync(2)`. */
export const IORING_FSYNC_DATASYNC = 1;
/** In the length of `POLL_ADD`: goes on after the first event. */
export const IORING_POLL_ADD_MULTI = 1;
/** In the operation flags of `ASYNC_CANCEL`: all that match, not one. */
export const IORING_ASYNC_CANCEL_ALL = 1;
/** In the operation flags of `ASYNC_CANCEL`: every request matches. */
export const IORING_ASYNC_CANCEL_ANY = 4;

// --- flags of a submission -------------------------------------------------

/** The descriptor is an index into the table of registered files. */
export const IOSQE_FIXED_FILE = 1;
/** Starts when all before it have completed. Not after a CQE_SKIP_SUCCESS. */
export const IOSQE_IO_DRAIN = 2;
/** The next request starts when this one has succeeded, else is cancelled. */
export const IOSQE_IO_LINK = 4;
/** The next request starts when this one has ended, however. */
export const IOSQE_IO_HARDLINK = 8;
/** Runs on a worker thread of the kernel at once. */
export const IOSQE_ASYNC = 16;
/** No completion unless it fails. */
export const IOSQE_CQE_SKIP_SUCCESS = 64;

// --- flags of a completion -------------------------------------------------

/** More completions of the same request follow. */
export const IORING_CQE_F_MORE = 2;

// --- setup -----------------------------------------------------------------

/** The number of completions is given. */
export const IORING_SETUP_CQSIZE = 1 << 3;
/** Sizes above the limits are cut to them. */
export const IORING_SETUP_CLAMP = 1 << 4;
/** A submission that is wrong does not stop those after it. Linux 5.18. */
export const IORING_SETUP_SUBMIT_ALL = 1 << 7;
/** Completions do not interrupt the thread that submits. Linux 5.19. */
export const IORING_SETUP_COOP_TASKRUN = 1 << 8;
/** Work that waits for the thread shows in the flags of the ring. 5.19. */
export const IORING_SETUP_TASKRUN_FLAG = 1 << 9;
/** One thread only submits. Linux 6.0. */
export const IORING_SETUP_SINGLE_ISSUER = 1 << 12;
/** Completions arrive only while the thread waits for them. Linux 6.1. */
export const IORING_SETUP_DEFER_TASKRUN = 1 << 13;

/** Both rings are one mapping. Linux 5.4. */
export const IORING_FEAT_SINGLE_MMAP = 1 << 0;
/** Completions that do not fit are kept. Linux 5.5. */
export const IORING_FEAT_NODROP = 1 << 1;
/** What a submission names may change once it was submitted. Linux 5.5. */
export const IORING_FEAT_SUBMIT_STABLE = 1 << 2;
/** Waits take a timeout. Linux 5.11. */
export const IORING_FEAT_EXT_ARG = 1 << 8;
/** Registered files have tags; came with multishot polls in Linux 5.13. */
export const IORING_FEAT_RSRC_TAGS = 1 << 10;
/** {@linkcode IOSQE_CQE_SKIP_SUCCESS}. Linux 5.17. */
export const IORING_FEAT_CQE_SKIP = 1 << 11;

/** Where the rings are mapped. */
export const IORING_OFF_SQ_RING = 0;
/** Where the submission entries are mapped. */
export const IORING_OFF_SQES = 0x1000_0000;

// --- enter -----------------------------------------------------------------

/** Wait for completions, and let those arrive that can. */
export const IORING_ENTER_GETEVENTS = 1 << 0;
/** The argument is a `struct io_uring_getevents_arg`. */
export const IORING_ENTER_EXT_ARG = 1 << 3;
/** The ring is an index into the registered rings of the thread. */
export const IORING_ENTER_REGISTERED_RING = 1 << 4;

/** In the flags of the submission ring: completions wait for room. */
export const IORING_SQ_CQ_OVERFLOW = 1 << 1;
/** In the flags of the submission ring: work waits for the thread. */
export const IORING_SQ_TASKRUN = 1 << 2;

// --- register --------------------------------------------------------------

/** Makes a table of files. */
export const IORING_REGISTER_FILES = 2;
/** Removes the table of files. */
export const IORING_UNREGISTER_FILES = 3;
/** Changes entries of the table of files. */
export const IORING_REGISTER_FILES_UPDATE = 6;
/** Asks which operations there are. */
export const IORING_REGISTER_PROBE = 8;
/** Limits the kernel's worker threads of the calling thread. Linux 5.15. */
export const IORING_REGISTER_IOWQ_MAX_WORKERS = 19;
/** Gives the ring an index in the calling thread. Linux 5.18. */
export const IORING_REGISTER_RING_FDS = 20;
/** Takes the index back. */
export const IORING_UNREGISTER_RING_FDS = 21;

/** In the flags of a probed operation. */
export const IO_URING_OP_SUPPORTED = 1;

// --- poll ------------------------------------------------------------------

/** Reading is possible. */
export const POLLIN = 0x1;
/** An error. */
export const POLLERR = 0x8;
/** The other side is gone. */
export const POLLHUP = 0x10;
