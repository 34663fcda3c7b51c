/**
 * The input that runs now, in a file that both processes map or read: it is
 * still there when the process that ran it is not.
 *
 * Layout: the number of inputs so far (le32), the length of the last one
 * (le32), its bytes.
 *
 * @module
 */

import { DataFile } from "../../../sys/file.ts";
import { mapFile, type Mapping } from "../../../sys/mapping.ts";

const HEAD = 8;
/** Bytes of the file. */
const SIZE = 65536;

/** Makes the file. */
export function makeCurrentInput(path: string): void {
  Deno.writeFileSync(path, new Uint8Array(SIZE));
}

/** How many inputs were begun, and the last of them. */
export function readCurrentInput(
  path: string,
): { count: number; input: Uint8Array<ArrayBuffer> } {
  const bytes = Deno.readFileSync(path);
  const view = new DataView(bytes.buffer);
  const count = view.getUint32(0, true);
  const length = view.getUint32(4, true);
  return { count, input: bytes.slice(HEAD, HEAD + length) };
}

/** Notes inputs, without a system call for each. */
export class CurrentInput implements Disposable {
  readonly #file: DataFile;
  readonly #mapping: Mapping;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #bytes: Uint8Array<ArrayBuffer>;

  /** Maps a file that {@linkcode makeCurrentInput} made. */
  constructor(path: string) {
    this.#file = DataFile.open(path);
    this.#mapping = mapFile(this.#file.fd, { size: SIZE });
    this.#words = new Uint32Array(this.#mapping.buffer, 0, 2);
    this.#bytes = new Uint8Array(this.#mapping.buffer, HEAD);
  }

  /** An input runs from now on. */
  note(input: Uint8Array): void {
    this.#words[0]++;
    this.#words[1] = input.length;
    this.#bytes.set(input);
  }

  /** Gives file and memory back. */
  [Symbol.dispose](): void {
    this.#mapping.unmap();
    this.#file.close();
  }
}
