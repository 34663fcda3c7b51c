/**
 * The system call that tells a ring of files, operations and of itself.
 *
 * @module
 */

import { Arena } from "../arena.ts";
import { libc, pointerTo } from "../libc.ts";
import {
  IORING_REGISTER_IOWQ_MAX_WORKERS,
  IORING_REGISTER_RING_FDS,
  IORING_UNREGISTER_RING_FDS,
} from "./constants.ts";

const SYS_IO_URING_REGISTER = 427;
/** Any free index. */
const ANY_INDEX = 0xffff_ffff;

/**
 * Passes the start of an arena to the kernel.
 *
 * C: `int io_uring_register(unsigned int fd, unsigned int opcode, void *arg,
 * unsigned int nr_args);`
 *
 * @param arena the argument; none if left out
 * @returns what the kernel returns; negative if it refuses, see `errno`
 */
export function registerWith(
  ring: number,
  opcode: number,
  arena: Arena | undefined,
  count: number,
): number {
  return libc().io_uring_register(
    SYS_IO_URING_REGISTER,
    ring,
    opcode,
    arena === undefined ? null : pointerTo(arena.address),
    count,
  );
}

/**
 * Registers the ring with the calling thread, which can then name it by index:
 * the kernel need not look the descriptor up and count its users (40 of 130 ns).
 * Linux 5.18.
 *
 * C: as {@linkcode registerWith}, with `IORING_REGISTER_RING_FDS`.
 *
 * @returns the index; -1 if the kernel cannot do so, or if the thread has as
 * many as it may (16)
 */
export function registerRing(ring: number): number {
  using arena = new Arena(16);
  // struct io_uring_rsrc_update { u32 offset; u32 resv; u64 data; }
  arena.u32[0] = ANY_INDEX;
  arena.u32[2] = ring;
  const count = registerWith(ring, IORING_REGISTER_RING_FDS, arena, 1);
  return count === 1 ? arena.u32[0] : -1;
}

/**
 * Ends what {@linkcode registerRing} began; else the ring would stay open.
 *
 * C: as {@linkcode registerWith}, with `IORING_UNREGISTER_RING_FDS`.
 */
export function unregisterRing(ring: number, index: number): void {
  using arena = new Arena(16);
  arena.u32[0] = index;
  registerWith(ring, IORING_UNREGISTER_RING_FDS, arena, 1);
}

/**
 * Limits the threads that the kernel makes for requests of the calling thread
 * that would wait. Linux 5.15; does nothing before.
 *
 * C: as {@linkcode registerWith}, with `IORING_REGISTER_IOWQ_MAX_WORKERS`.
 *
 * @param bounded for files and block devices; 0 leaves the limit as it is
 * @param unbounded for all else; 0 leaves the limit as it is
 * @returns the limits so far, bounded and unbounded; zeros before Linux 5.15
 */
export function limitWorkers(
  ring: number,
  bounded: number,
  unbounded: number,
): [bounded: number, unbounded: number] {
  using arena = new Arena(16);
  arena.u32[0] = bounded;
  arena.u32[1] = unbounded;
  const opcode = IORING_REGISTER_IOWQ_MAX_WORKERS;
  return registerWith(ring, opcode, arena, 2) === 0
    ? [arena.u32[0], arena.u32[1]]
    : [0, 0];
}
