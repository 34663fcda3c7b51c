/**
 * The table of registered files of a ring: requests that name a file by its
 * index in the table spare the kernel the look-up and the count of its users.
 *
 * @module
 */

import { Arena } from "../arena.ts";
import { check, Errno, systemError } from "../errno.ts";
import {
  IORING_REGISTER_FILES,
  IORING_REGISTER_FILES_UPDATE,
  IORING_UNREGISTER_FILES,
} from "./constants.ts";
import { registerWith } from "./register.ts";

const TWO_32 = 4294967296;

/** Registered files, by index. */
export class RegisteredFiles {
  readonly #ring: number;
  readonly #used: Uint8Array;
  #made = false;

  /**
   * A table that is made when it is first used.
   *
   * @param ring descriptor of a ring
   * @param size how many files it holds
   */
  constructor(ring: number, size: number) {
    this.#ring = ring;
    this.#used = new Uint8Array(size);
  }

  /**
   * Adds a file; the table holds a reference of its own.
   *
   * C: `int io_uring_register(unsigned int fd, IORING_REGISTER_FILES_UPDATE,
   * struct io_uring_files_update *arg, 1);`
   *
   * @returns its index; -1 if the table is full
   * @throws {SystemError} kind `EBADF` if `fd` is not open
   */
  add(fd: number): number {
    // To the kernel, -1 means to remove a file.
    if (fd < 0) throw systemError(Errno.EBADF, "io_uring_register", `fd ${fd}`);
    const index = this.#used.indexOf(0);
    if (index < 0) return -1;
    this.#make();
    this.#update(index, fd);
    this.#used[index] = 1;
    return index;
  }

  /**
   * Removes a file. Requests in flight keep it until they have ended.
   *
   * C: as {@linkcode RegisteredFiles.add}.
   */
  remove(index: number): void {
    if (this.#used[index] !== 1) {
      throw new RangeError(
        `Cannot unregister file ${index}: nothing is registered there`,
      );
    }
    this.#update(index, -1);
    this.#used[index] = 0;
  }

  #make(): void {
    if (this.#made) return;
    const size = this.#used.length;
    using arena = new Arena(4 * size);
    arena.u32.fill(0xffff_ffff, 0, size);
    this.#register(IORING_REGISTER_FILES, "FILES", arena, size);
    this.#made = true;
  }

  #update(index: number, fd: number): void {
    using arena = new Arena(64);
    // struct io_uring_files_update { u32 offset; u32 resv; s32 *fds; }
    const list = arena.address + 32;
    arena.u32[0] = index;
    arena.u32[2] = list;
    arena.u32[3] = list / TWO_32;
    arena.u32[8] = fd;
    this.#register(IORING_REGISTER_FILES_UPDATE, "FILES_UPDATE", arena, 1);
  }

  #register(opcode: number, name: string, arena: Arena, count: number): void {
    const result = registerWith(this.#ring, opcode, arena, count);
    check(result, `io_uring_register(${name})`);
  }

  /**
   * Gives all files back.
   *
   * C: `int io_uring_register(unsigned int fd, IORING_UNREGISTER_FILES, NULL,
   * 0);`
   */
  close(): void {
    if (!this.#made) return;
    this.#made = false;
    this.#used.fill(0);
    registerWith(this.#ring, IORING_UNREGISTER_FILES, undefined, 0);
  }
}
