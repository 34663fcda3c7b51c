/**
 * Setting an io_uring up: the descriptor, its two mappings and where the
 * fields of the rings are.
 *
 * @module
 */

import { Errno, errno, errnoName, errnoText, SystemError } from "../errno.ts";
import { OwnedFd } from "../fd.ts";
import { libc } from "../libc.ts";
import { mapFile, type Mapping } from "../mapping.ts";
import {
  IORING_FEAT_EXT_ARG,
  IORING_FEAT_NODROP,
  IORING_FEAT_RSRC_TAGS,
  IORING_FEAT_SINGLE_MMAP,
  IORING_FEAT_SUBMIT_STABLE,
  IORING_OFF_SQ_RING,
  IORING_OFF_SQES,
  IORING_SETUP_CLAMP,
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_CQSIZE,
  IORING_SETUP_SINGLE_ISSUER,
  IORING_SETUP_SUBMIT_ALL,
  IORING_SETUP_TASKRUN_FLAG,
} from "./constants.ts";

const SYS_IO_URING_SETUP = 425;

/** Bytes of a `struct io_uring_sqe`. */
const SQE_BYTES = 64;
/** Bytes of a `struct io_uring_cqe`. */
const CQE_BYTES = 16;

/**
 * What a kernel must have: Linux 5.13. There is no feature bit for multishot
 * polls; they came with the tags of registered files.
 */
const REQUIRED = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP |
  IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG | IORING_FEAT_RSRC_TAGS;

const LINUX_5_18 = IORING_SETUP_SUBMIT_ALL;
const LINUX_5_19 = LINUX_5_18 | IORING_SETUP_COOP_TASKRUN |
  IORING_SETUP_TASKRUN_FLAG;
const LINUX_6_0 = LINUX_5_19 | IORING_SETUP_SINGLE_ISSUER;

/** Setup flags, from the best to none: the first that the kernel takes. */
const FLAGS: readonly number[] = [LINUX_6_0, LINUX_5_19, LINUX_5_18, 0];

/** What to set up. */
export interface SetupOptions {
  /** Submissions that can be prepared at a time; a power of two. */
  entries: number;
  /** Completions that the ring holds; a power of two. */
  completions: number;
  /** `IORING_SETUP_*` to try first, before none. */
  flags?: number;
}

/** A ring that was set up. */
export interface RingMemory {
  /** The ring's descriptor. */
  fd: OwnedFd;
  /** The `IORING_SETUP_*` flags it has. */
  flags: number;
  /** The `IORING_FEAT_*` of the kernel. */
  features: number;
  /** Size of the submission ring. */
  entries: number;
  /** Size of the completion ring. */
  completions: number;
  /** Both rings. */
  rings: Mapping;
  /** The submission entries. */
  sqes: Mapping;
  /** Where things are in `rings`, in 32-bit words. */
  words: RingWords;
}

/** Where things are in the rings, in 32-bit words. */
export interface RingWords {
  /** Submissions: the next that the kernel takes. */
  sqHead: number;
  /** Submissions: the next that is given. */
  sqTail: number;
  /** `IORING_SQ_*` flags. */
  sqFlags: number;
  /** Completions: the next that is taken. */
  cqHead: number;
  /** Completions: the next that the kernel gives. */
  cqTail: number;
  /** The first completion. */
  cqes: number;
}

/**
 * Sets a ring up, with the best flags that the kernel takes.
 *
 * C: `int io_uring_setup(u32 entries, struct io_uring_params *p);` and `void
 * *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);`
 *
 * @throws {SystemError} kind `ENOSYS` where the kernel has no io_uring or one
 * that is too old, `EPERM` where it is forbidden, others from `io_uring_setup`
 */
export function setUpRing(options: SetupOptions): RingMemory {
  const { entries, completions } = options;
  const ladder = options.flags === undefined ? FLAGS : [options.flags, 0];
  const params = new Uint32Array(30);
  let last: number = Errno.EINVAL;
  for (const flags of ladder) {
    params.fill(0);
    params[1] = completions;
    params[2] = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    const fd = libc().io_uring_setup(SYS_IO_URING_SETUP, entries, params);
    if (fd >= 0) return mapRing(new OwnedFd(fd), params);
    last = errno();
    // Flags that are not known, or not possible together.
    if (last !== Errno.EINVAL) break;
  }
  throw refusal(last);
}

function refusal(n: number): SystemError {
  const text = `Cannot set up an io_uring: ${errnoText(n)} (${errnoName(n)})`;
  const why = n === Errno.EPERM || n === Errno.EACCES
    ? "; kernel.io_uring_disabled or a seccomp filter forbids it"
    : n === Errno.ENOSYS
    ? "; the kernel has none, or a seccomp filter hides it"
    : n === Errno.ENOMEM
    ? "; more lockable memory would be needed (RLIMIT_MEMLOCK)"
    : "";
  return new SystemError(n, "io_uring_setup", text + why);
}

/**
 * Refuses kernels before Linux 5.13.
 *
 * @param features `IORING_FEAT_*` of the kernel
 * @throws {SystemError} kind `ENOSYS`
 */
export function requireFeatures(features: number): void {
  if ((features & REQUIRED) === REQUIRED) return;
  throw new SystemError(
    Errno.ENOSYS,
    "io_uring_setup",
    "Cannot set up an io_uring: the kernel's has features " +
      `0x${features.toString(16)}, it should be that of Linux 5.13 or later`,
  );
}

function mapRing(fd: OwnedFd, params: Uint32Array): RingMemory {
  let rings: Mapping | undefined;
  try {
    // struct io_uring_params: sq_entries, cq_entries, flags, sq_thread_cpu,
    // sq_thread_idle, features, wq_fd, resv[3]; struct io_sqring_offsets: head,
    // tail, ring_mask, ring_entries, flags, dropped, array, resv1, user_addr;
    // struct io_cqring_offsets: head, tail, ring_mask, ring_entries, overflow,
    // cqes, flags, resv1, user_addr.
    const [entries, completions, flags, , , features] = params;
    requireFeatures(features);
    const sq = params.subarray(10, 20), cq = params.subarray(20, 30);
    const array = sq[6], cqes = cq[5];
    const size = Math.max(array + 4 * entries, cqes + CQE_BYTES * completions);
    rings = mapFile(fd.fd, { offset: IORING_OFF_SQ_RING, size });
    // Entry i of the submission ring is always submission entry i.
    const indices = new Uint32Array(rings.buffer, array, entries);
    for (let i = 0; i < entries; i++) indices[i] = i;
    const sqes = mapFile(fd.fd, {
      offset: IORING_OFF_SQES,
      size: SQE_BYTES * entries,
    });
    return {
      fd,
      flags,
      features,
      entries,
      completions,
      rings,
      sqes,
      words: {
        sqHead: sq[0] / 4,
        sqTail: sq[1] / 4,
        sqFlags: sq[4] / 4,
        cqHead: cq[0] / 4,
        cqTail: cq[1] / 4,
        cqes: cqes / 4,
      },
    };
  } catch (error) {
    rings?.unmap();
    fd.close();
    throw error;
  }
}
