/**
 * Another program that locks an image the way QEMU does; run as a process of
 * its own. Arguments: the image, and two lists of bytes, the claimed and the
 * asked ones, as in `100,101,201` (or `-` for none). Prints whether all could be
 * claimed and whether a write lock on all asked ones would be possible, and
 * holds the claims until its input ends.
 *
 * @module
 */

import { DataFile } from "../../../sys/file.ts";

const [path, claimed, asked] = Deno.args;
const bytes = (list: string) => list === "-" ? [] : list.split(",").map(Number);
using file = DataFile.open(path);
const held = bytes(claimed).every((byte) => file.tryLock("read", byte, 1));
const free = bytes(asked).every((byte) => file.testLock("write", byte, 1));
console.log(JSON.stringify({ held, free }));
await Deno.stdin.readable.pipeTo(new WritableStream());
