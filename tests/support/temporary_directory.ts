/**
 * Directories that go away with the test that made them.
 *
 * @module
 */

import { join } from "@std/path";

/**
 * A fresh directory below the system's temporary directory.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 *
 * using directory = TemporaryDirectory.make("example");
 * await Deno.writeTextFile(directory.file("disk.img"), "");
 * assert((await Deno.stat(directory.file("disk.img"))).isFile);
 * ```
 */
export class TemporaryDirectory implements Disposable {
  /** The absolute path of the directory. */
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * Makes a directory, mode 0700.
   *
   * @param name a word for its name; short, since the paths of Unix sockets
   * in it are limited to 107 bytes
   */
  static make(name: string): TemporaryDirectory {
    return new TemporaryDirectory(
      Deno.makeTempDirSync({ prefix: `vhostd-${name}-` }),
    );
  }

  /** The path of the file `name` in the directory. */
  file(name: string): string {
    return join(this.path, name);
  }

  /** Removes the directory with all that is in it. */
  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}
