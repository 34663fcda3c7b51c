/**
 * Keeps two writers from one image.
 *
 * Theory of operation. The lock is advisory and speaks QEMU's language, so that
 * QEMU, qemu-img and vhostd refuse an image that another of them uses. QEMU
 * (block/file-posix.c, `raw_apply_lock_bytes` and `raw_check_lock_bytes`) gives
 * each permission two bytes of the image file: one from 100 on says "I use this
 * permission", one from 200 on says "I let nobody else use it". Whoever claims
 * a byte takes a read lock on it, which others may take too; a claim is seen by
 * asking whether a write lock would be possible. The locks belong to the open
 * file description (OFD locks), so two devices of one process exclude each other
 * as well, and they end with the last user of the open file: of a process that
 * was killed, that is the last of its requests in io_uring, which outlives it by
 * some milliseconds. So no request of a predecessor comes after one of ours;
 * whoever begins to serve waits for it (`host/lock_patience.ts`).
 *
 * A writer claims reading and writing and forbids others to write or to resize.
 * A read-only server claims reading and forbids the same; so any number of
 * readers share an image, and none of them shares it with a writer.
 *
 * With sharing the claims are made but forbid nothing, and what others forbid
 * is ignored: such a server is never refused, while those that insist on having
 * the image for themselves still see it. Like readers it waits for no predecessor
 * by the lock; the supervisor does that for all (`host/supervisor/remains.ts`).
 *
 * Claims are made before the others' are looked at: of two that start together
 * at least one sees the other.
 *
 * @module
 */

import type { DataFile } from "../../sys/file.ts";
import { SystemError } from "../../sys/errno.ts";
import { StorageError } from "./error.ts";

/** First of the bytes that say which permissions are used. */
const USED_BASE = 100;
/** First of the bytes that say which permissions others must not use. */
const FORBIDDEN_BASE = 200;

/** Read contents that make sense. */
const CONSISTENT_READ = 0;
/** Write. */
const WRITE = 1;
/** Change the size. */
const RESIZE = 3;

const READER = [CONSISTENT_READ];
const WRITER = [CONSISTENT_READ, WRITE];
const EXCLUSIVE = [WRITE, RESIZE];
const SHARED: readonly number[] = [];

/** The advisory lock on an image. */
export class ImageLock {
  readonly #file: DataFile;
  readonly #used: readonly number[];
  readonly #forbidden: readonly number[];
  readonly #share: boolean;
  #held = false;

  /**
   * Prepares a lock; nothing is locked yet.
   *
   * @param file the image, opened as it is used
   * @param share let others write, and write although others do
   */
  constructor(file: DataFile, share: boolean) {
    this.#file = file;
    this.#used = file.readOnly ? READER : WRITER;
    this.#forbidden = share ? SHARED : EXCLUSIVE;
    this.#share = share;
  }

  /** True between {@linkcode acquire} and {@linkcode release}. */
  get held(): boolean {
    return this.#held;
  }

  /**
   * Takes the lock; does nothing when it is held.
   *
   * @throws {StorageError} of kind `locked` when another open image conflicts,
   * `system` when the file system has no locks. Never with sharing.
   */
  acquire(): void {
    if (this.#held) return;
    try {
      const free = this.#claim() && this.#permitted();
      if (!free && !this.#share) {
        throw new StorageError(
          "locked",
          this.#file.path,
          this.#file.readOnly
            ? "another process writes it; stop that, or use share=on"
            : "another process uses it; stop that, or use share=on",
        );
      }
      this.#held = true;
    } catch (error) {
      this.#unclaim();
      if (!(error instanceof SystemError)) throw error;
      if (!this.#share) {
        throw new StorageError(
          "system",
          this.#file.path,
          `it cannot be locked (${error.kind}); use share=on when nothing ` +
            "else writes it",
          { cause: error },
        );
      }
      this.#held = true;
    }
  }

  /** Lets the lock go; does nothing when it is not held. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#unclaim();
  }

  #claim(): boolean {
    for (const permission of this.#used) {
      if (!this.#file.tryLock("read", USED_BASE + permission, 1)) return false;
    }
    for (const permission of this.#forbidden) {
      if (!this.#file.tryLock("read", FORBIDDEN_BASE + permission, 1)) {
        return false;
      }
    }
    return true;
  }

  /** Whether nobody forbids what we use, or uses what we forbid. */
  #permitted(): boolean {
    return this.#used.every((permission) =>
      this.#file.testLock("write", FORBIDDEN_BASE + permission, 1)
    ) && this.#forbidden.every((permission) =>
      this.#file.testLock("write", USED_BASE + permission, 1)
    );
  }

  #unclaim(): void {
    try {
      this.#file.tryLock("none", USED_BASE, RESIZE + 1);
      this.#file.tryLock("none", FORBIDDEN_BASE, RESIZE + 1);
    } catch (error) {
      // A file system without locks cannot unlock either.
      if (!(error instanceof SystemError)) throw error;
    }
  }
}
