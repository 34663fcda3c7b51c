import { assertEquals } from "@std/assert";
import { writeWords } from "./config_words.ts";

Deno.test("of a write anywhere, the driver's words alone are applied", () => {
  const words = [4, 12];
  for (let offset = 0; offset <= 20; offset++) {
    for (let length = 0; length <= 20; length++) {
      const shared = new SharedArrayBuffer(24);
      const config = new Uint8Array(shared, 4, 16);
      for (let i = 0; i < 16; i++) config[i] = i;
      writeWords(config, words, offset, new Uint8Array(length).fill(0xee));
      const expected = Array.from({ length: 16 }, (_, i) => {
        const mine = i >= 12 || (i >= 4 && i < 8);
        return mine && i >= offset && i < offset + length ? 0xee : i;
      });
      assertEquals([...config], expected, `${length} bytes at ${offset}`);
      const around = new Uint8Array(shared);
      assertEquals([...around.slice(0, 4), ...around.slice(20)], [
        ...[0, 0, 0, 0],
        ...[0, 0, 0, 0],
      ]);
    }
  }
});

Deno.test("words are little-endian, as they were written", () => {
  const config = new Uint8Array(new SharedArrayBuffer(8));
  writeWords(config, [4], 4, Uint8Array.of(1, 2, 3, 4));
  assertEquals(new DataView(config.buffer).getUint32(4, true), 0x04030201);
});
