/**
 * What `serve` makes where nobody named a place: a directory for sockets and
 * images, and images in it.
 *
 * Theory of operation: whatever was made goes away again when nothing was served,
 * images only as long as they are one hole. The directory goes away at the end if
 * it was made here and is empty: sockets are gone then, images keep it.
 *
 * @module
 */

import { errnoName, SystemError } from "../../sys/errno.ts";
import { DataFile } from "../../sys/file.ts";
import { realPath, removeFile } from "../../sys/small_file.ts";
import { HostError, messageOf } from "../error.ts";
import { describeSize } from "../options/parse.ts";

/** Files and a directory, removed at the end if nobody has a use for them. */
export class MadeFiles implements Disposable {
  readonly #directory: string;
  readonly #images: string[] = [];
  #madeDirectory = false;

  /** Makes nothing yet. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * Makes the directory, if there is none.
   *
   * @param remedy how to do without it
   * @throws {HostError} of kind `start`
   */
  makeDirectory(remedy: string): void {
    const path = this.#directory;
    try {
      this.#madeDirectory = makeDirectory(path);
    } catch (error) {
      throw new HostError(
        "start",
        `Cannot make the directory "${path}": ${reasonOf(error)}; ${remedy}`,
        { cause: error },
      );
    }
  }

  /**
   * Makes a sparse image where there is none, or an empty file.
   *
   * @throws {HostError} of kind `start`
   */
  makeImage(path: string, size: number): void {
    const isNew = !isThere(path);
    using file = DataFile.open(path, { create: true });
    if (file.kind !== "file" || file.size() > 0) return;
    if (isNew) this.#images.push(path);
    const result = file.truncate(size);
    if (result === 0) return;
    throw new HostError(
      "start",
      `Cannot make "${path}" with ${describeSize(size)}: ${errnoName(-result)}`,
    );
  }

  /** The images are served: they stay. */
  keepImages(): void {
    this.#images.length = 0;
  }

  /** Removes what nobody has a use for. */
  [Symbol.dispose](): void {
    for (const path of this.#images) {
      try {
        if (isHole(path)) removeFile(path);
      } catch {
        // It stays, then.
      }
    }
    if (!this.#madeDirectory) return;
    try {
      Deno.removeSync(this.#directory);
    } catch {
      // There is something in it.
    }
  }
}

/** Makes a directory; false where there is one. */
function makeDirectory(path: string): boolean {
  try {
    Deno.mkdirSync(path);
    return true;
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
  // It may be something else.
  Deno.mkdirSync(path, { recursive: true });
  return false;
}

function isThere(path: string): boolean {
  try {
    realPath(path);
    return true;
  } catch (error) {
    if (error instanceof SystemError && error.kind === "ENOENT") return false;
    throw error;
  }
}

function isHole(path: string): boolean {
  using file = DataFile.open(path, { readOnly: true });
  return file.seek("data", 0) < 0;
}

/** What an error of the runtime says, without number and operation. */
function reasonOf(error: unknown): string {
  return messageOf(error).replace(/ \(os error \d+\): .*/, "");
}
