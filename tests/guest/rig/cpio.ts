/**
 * Writing initial RAM disks: cpio archives in the "new ASCII" format (magic
 * 070701), the format of the Linux kernel's
 * Documentation/driver-api/early-userspace/buffer-format.rst.
 *
 * @module
 */

import { concat } from "@std/bytes";

const MAGIC = "070701";
const TRAILER = "TRAILER!!!";
const DIRECTORY = 0o040000;
const REGULAR = 0o100000;
const SYMBOLIC_LINK = 0o120000;

/** Archives are padded to this, so that another can follow. */
const BLOCK = 512;

/**
 * A cpio archive in the making. All members belong to root and bear the time
 * 0, so the same members always make the same bytes.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * const archive = new CpioWriter();
 * archive.directory("etc");
 * archive.file("etc/motd", new TextEncoder().encode("hello\n"));
 * assertEquals(archive.finish().length % 512, 0);
 * ```
 */
export class CpioWriter {
  #parts: Uint8Array<ArrayBuffer>[] = [];
  #length = 0;
  #names = new Set<string>();

  /** Adds a directory; one that is there already stays as it is. */
  directory(path: string, mode = 0o755): void {
    if (this.has(path)) return;
    this.#check(path);
    this.#member(path, DIRECTORY | mode, 2, EMPTY);
  }

  /** Adds a regular file, with the directories above it where missing. */
  file(path: string, content: Uint8Array<ArrayBuffer>, mode = 0o644): void {
    this.#check(path);
    this.#parents(path);
    this.#member(path, REGULAR | mode, 1, content);
  }

  /** Adds a symbolic link to `target`. */
  link(path: string, target: string): void {
    this.#check(path);
    this.#parents(path);
    this.#member(
      path,
      SYMBOLIC_LINK | 0o777,
      1,
      new TextEncoder().encode(target),
    );
  }

  /** True when the archive has a member of this name. */
  has(path: string): boolean {
    return this.#names.has(path);
  }

  /** Ends the archive and returns it. The writer must not be used again. */
  finish(): Uint8Array<ArrayBuffer> {
    this.#member(TRAILER, 0, 1, EMPTY);
    this.#pad(BLOCK);
    return concat(this.#parts);
  }

  #check(path: string): void {
    if (path === "" || path.startsWith("/") || this.#names.has(path)) {
      throw new RangeError(
        `Cannot add "${path}" to the archive: names are relative, not ` +
          "empty and used once",
      );
    }
  }

  #parents(path: string): void {
    const parts = path.split("/");
    for (let depth = 1; depth < parts.length; depth++) {
      this.directory(parts.slice(0, depth).join("/"));
    }
  }

  #member(
    path: string,
    mode: number,
    links: number,
    content: Uint8Array<ArrayBuffer>,
  ): void {
    this.#names.add(path);
    const name = new TextEncoder().encode(path + "\0");
    const fields = [
      path === TRAILER ? 0 : this.#names.size, // inode
      mode,
      0, // user
      0, // group
      links,
      0, // modification time
      content.length,
      0, // device
      0,
      0, // device of a device node
      0,
      name.length,
      0, // checksum: unused in this format
    ];
    const header = MAGIC +
      fields.map((field) => field.toString(16).padStart(8, "0")).join("");
    this.#push(new TextEncoder().encode(header));
    this.#push(name);
    this.#pad(4);
    this.#push(content);
    this.#pad(4);
  }

  #push(bytes: Uint8Array<ArrayBuffer>): void {
    this.#parts.push(bytes);
    this.#length += bytes.length;
  }

  #pad(alignment: number): void {
    const rest = this.#length % alignment;
    if (rest !== 0) this.#push(new Uint8Array(alignment - rest));
  }
}

const EMPTY = new Uint8Array(0);
