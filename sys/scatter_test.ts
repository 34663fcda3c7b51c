import { assertEquals, assertThrows } from "@std/assert";
import { Arena } from "./arena.ts";
import { createPipe } from "./spawn.ts";
import { IovecTable } from "./iovec.ts";
import {
  copyScattered,
  readScattered,
  sendScattered,
  writeScattered,
} from "./scatter.ts";
import { UnixSocket } from "./unix_socket.ts";
import { Errno } from "./errno.ts";
import { setNonblocking } from "./fd.ts";

/** A list of pieces of an arena, given as offset and length. */
function listOf(arena: Arena, pieces: [number, number][]): IovecTable {
  const list = new IovecTable(1, pieces.length);
  pieces.forEach(([offset, length], i) => {
    const address = arena.address + offset;
    list.words[4 * i] = address;
    list.words[4 * i + 1] = address / 2 ** 32;
    list.words[4 * i + 2] = length;
  });
  return list;
}

function numbered(bytes: Uint8Array): void {
  bytes.forEach((_, i) => bytes[i] = i + 1);
}

Deno.test("copyScattered() copies across any piece boundaries", () => {
  using arena = new Arena(256);
  numbered(arena.u8.subarray(0, 32));
  using from = listOf(arena, [[0, 5], [10, 0], [5, 3], [8, 24]]);
  using to = listOf(arena, [[100, 7], [120, 0], [130, 1], [140, 40]]);
  copyScattered(to.words, 0, from.words, 0, 2, 28);
  const done = [
    ...arena.u8.subarray(100, 107),
    ...arena.u8.subarray(130, 131),
    ...arena.u8.subarray(140, 160),
  ];
  assertEquals(done, Array.from({ length: 28 }, (_, i) => i + 3));
  assertEquals([arena.u8[107], arena.u8[131], arena.u8[160]], [0, 0, 0]);
});

Deno.test("copyScattered() copies one piece, also from its middle", () => {
  using arena = new Arena(256);
  numbered(arena.u8.subarray(0, 32));
  using from = listOf(arena, [[0, 5], [10, 9]]);
  using to = listOf(arena, [[120, 3], [100, 8]]);
  for (const [skip, length] of [[5, 8], [7, 7], [5, 9]]) {
    arena.u8.fill(0, 100, 140);
    if (length > 8) {
      const copy = () =>
        copyScattered(to.words, 4, from.words, 0, skip, length);
      assertThrows(copy, RangeError);
      continue;
    }
    copyScattered(to.words, 4, from.words, 0, skip, length);
    const wanted = Array.from({ length }, (_, i) => skip + 6 + i);
    assertEquals([...arena.u8.subarray(100, 100 + length)], wanted);
    assertEquals(arena.u8[100 + length], 0);
  }
});

Deno.test("copyScattered() refuses lists that end too early", () => {
  using arena = new Arena(256);
  using list = listOf(arena, [[0, 8]]);
  using short = listOf(arena, [[100, 4]]);
  assertThrows(
    () => copyScattered(short.words, 0, list.words, 0, 0, 8),
    RangeError,
    "too short",
  );
  assertThrows(
    () => copyScattered(list.words, 0, short.words, 0, 0, 8),
    RangeError,
  );
});

Deno.test("writeScattered() and readScattered() move what the lists name", () => {
  using arena = new Arena(256);
  numbered(arena.u8.subarray(0, 16));
  using from = listOf(arena, [[99, 1], [0, 6], [6, 10]]);
  using to = listOf(arena, [[100, 4], [120, 30]]);
  const [reader, writer] = createPipe();
  using _reader = reader;
  using _writer = writer;
  assertEquals(writeScattered(writer.fd, from, 1, 2), 16);
  assertEquals(readScattered(reader.fd, to, 0, 2), 16);
  assertEquals(arena.u8.subarray(100, 104), arena.u8.subarray(0, 4));
  assertEquals(arena.u8.subarray(120, 132), arena.u8.subarray(4, 16));
  setNonblocking(reader.fd, true);
  assertEquals(readScattered(reader.fd, to, 0, 2), -Errno.EAGAIN);
});

Deno.test("sendScattered() sends, says when it is full, and raises no signal", () => {
  using arena = new Arena(65536);
  const [a, b] = UnixSocket.pair();
  using _a = a;
  using list = listOf(arena, [[0, 30000], [30000, 30000]]);
  let sent = 0;
  for (;;) {
    const n = sendScattered(a.fd, list, 0, 2);
    if (n < 0) {
      assertEquals(n, -Errno.EAGAIN);
      break;
    }
    sent += n;
  }
  assertEquals(sent > 60000, true);
  b[Symbol.dispose]();
  assertEquals(sendScattered(a.fd, list, 0, 2), -Errno.EPIPE);
});
