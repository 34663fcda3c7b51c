import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  FrontEndMessage,
  MAX_PAYLOAD_SIZE,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_VERSION,
} from "./constants.ts";
import { ProtocolError, type ProtocolErrorKind } from "./errors.ts";
import {
  decodeConfig,
  decodeEmpty,
  decodeHeader,
  decodeMemoryRegion,
  decodeMemoryTable,
  decodeU64,
  decodeVringAddress,
  decodeVringFd,
  decodeVringState,
  encodeConfig,
  encodeMemoryRegion,
  encodeMemoryTable,
  encodeMessage,
  encodeReply,
  encodeU64,
  encodeVringAddress,
  encodeVringFd,
  encodeVringState,
} from "./message.ts";

const SET_VRING_NUM = FrontEndMessage.SET_VRING_NUM;

function assertRefused(
  run: () => unknown,
  kind: ProtocolErrorKind,
  text: string,
): void {
  const error = assertThrows(run, ProtocolError, text);
  assertEquals(error.kind, kind);
}

Deno.test("a message is request, flags, size, payload in native order", () => {
  const bytes = encodeMessage(
    0x0102,
    VHOST_USER_VERSION | VHOST_USER_NEED_REPLY,
    new Uint8Array([7, 8, 9]),
  );
  assertEquals(
    [...bytes],
    [2, 1, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 7, 8, 9],
  );
  assertEquals(decodeHeader(bytes), { request: 0x0102, flags: 9, size: 3 });
});

Deno.test("a reply has flags 5, no more, no less", () => {
  const { flags } = decodeHeader(encodeReply(1, encodeU64(1n)));
  assertEquals(flags, 5);
});

Deno.test("decodeHeader() refuses other versions and large payloads", () => {
  for (const version of [0, 2, 3]) {
    assertRefused(
      () => decodeHeader(encodeMessage(1, version)),
      "version",
      `Cannot serve VHOST_USER_GET_FEATURES: protocol version ${version} is not 1`,
    );
  }
  const header = (size: number): Uint8Array => {
    const bytes = encodeMessage(5, 1);
    new DataView(bytes.buffer).setUint32(8, size, true);
    return bytes;
  };
  assertEquals(decodeHeader(header(MAX_PAYLOAD_SIZE)).size, MAX_PAYLOAD_SIZE);
  for (const size of [MAX_PAYLOAD_SIZE + 1, 0xffff_ffff]) {
    assertRefused(
      () => decodeHeader(header(size)),
      "payload-limit",
      `payload size ${size} exceeds ${MAX_PAYLOAD_SIZE} bytes`,
    );
  }
});

Deno.test("every payload is decoded to what was encoded", () => {
  const num = fc.integer({ min: 0, max: 0xffff_ffff });
  const address = fc.maxSafeNat();
  const region = fc.record({
    guestAddress: address,
    size: address,
    userAddress: address,
    mmapOffset: address,
  });
  const bytes = fc.uint8Array({ maxLength: 256 });
  fc.assert(fc.property(
    fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    fc.record({ index: num, num }),
    fc.record({
      index: num,
      flags: num,
      descriptor: address,
      used: address,
      available: address,
      log: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    }),
    fc.record({ index: fc.integer({ min: 0, max: 255 }), noFd: fc.boolean() }),
    fc.array(region, { maxLength: 8 }),
    fc.record({ offset: num, flags: num, data: bytes }),
    (value, state, ring, fd, regions, config) => {
      assertEquals(decodeU64(2, encodeU64(value)), value);
      assertEquals(decodeVringState(8, encodeVringState(state)), state);
      assertEquals(decodeVringAddress(9, encodeVringAddress(ring)), ring);
      assertEquals(decodeVringFd(12, encodeVringFd(fd)), fd);
      assertEquals(decodeMemoryTable(5, encodeMemoryTable(regions)), regions);
      for (const one of regions) {
        assertEquals(decodeMemoryRegion(37, encodeMemoryRegion(one)), one);
      }
      const { offset, flags, data } = config;
      const coded = encodeConfig(offset, flags, data);
      const decoded = decodeConfig(25, coded, false);
      assertEquals(decoded, { offset, size: data.length, flags, data });
    },
  ));
});

Deno.test("decoders throw nothing but ProtocolError on any bytes", () => {
  const decoders = [
    (p: Uint8Array) => decodeEmpty(3, p),
    (p: Uint8Array) => decodeU64(2, p),
    (p: Uint8Array) => decodeVringState(8, p),
    (p: Uint8Array) => decodeVringAddress(9, p),
    (p: Uint8Array) => decodeVringFd(12, p),
    (p: Uint8Array) => decodeMemoryTable(5, p),
    (p: Uint8Array) => decodeMemoryRegion(37, p),
    (p: Uint8Array) => decodeConfig(24, p, true),
    (p: Uint8Array) => decodeConfig(25, p, false),
  ];
  fc.assert(fc.property(
    fc.uint8Array({ maxLength: 300 }),
    fc.constantFrom(...decoders),
    (payload, decode) => {
      try {
        decode(payload);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
      }
    },
  ));
});

Deno.test("payloads of another size are refused", () => {
  const off = (n: number): Uint8Array => new Uint8Array(n);
  const size = (n: number, right: number): string =>
    `payload is ${n} bytes, not ${right}`;
  assertRefused(() => decodeEmpty(3, off(1)), "payload-size", size(1, 0));
  for (const n of [0, 4, 7, 9, 16]) {
    assertRefused(() => decodeU64(2, off(n)), "payload-size", size(n, 8));
    assertRefused(
      () => decodeVringState(SET_VRING_NUM, off(n)),
      "payload-size",
      `Cannot serve VHOST_USER_SET_VRING_NUM: ${size(n, 8)}`,
    );
  }
  assertRefused(
    () => decodeVringAddress(9, off(39)),
    "payload-size",
    size(39, 40),
  );
  assertRefused(
    () => decodeMemoryRegion(37, off(32)),
    "payload-size",
    size(32, 40),
  );
  assertRefused(
    () => decodeMemoryTable(5, off(7)),
    "payload-size",
    "less than 8",
  );
});

Deno.test("decodeMemoryTable() takes as many regions as there are bytes for", () => {
  const bytes = encodeMemoryTable([]);
  assertEquals(decodeMemoryTable(5, bytes), []);
  for (const count of [1, 8, 0xffff_ffff]) {
    new DataView(bytes.buffer).setUint32(0, count, true);
    assertRefused(
      () => decodeMemoryTable(5, bytes),
      "payload-size",
      `payload is 8 bytes, not ${8 + count * 32}`,
    );
  }
});

Deno.test("addresses and sizes from 2^53 on are refused, by name", () => {
  const region = {
    guestAddress: 0,
    size: 0,
    userAddress: 0,
    mmapOffset: 0,
  };
  const fields = [
    "guest address",
    "region size",
    "user address",
    "mmap offset",
  ];
  fields.forEach((name, i) => {
    const bytes = encodeMemoryRegion(region);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(8 + 8 * i, (1n << 53n) - 1n, true);
    decodeMemoryRegion(37, bytes);
    view.setBigUint64(8 + 8 * i, 1n << 53n, true);
    assertRefused(
      () => decodeMemoryRegion(37, bytes),
      "value",
      `${name} 0x20000000000000 is not below 2^53`,
    );
    view.setBigUint64(8 + 8 * i, (1n << 64n) - 1n, true);
    assertRefused(
      () => decodeMemoryRegion(37, bytes),
      "value",
      `${name} 0xffffffffffffffff is not below 2^53`,
    );
  });
});

Deno.test("decodeVringFd() looks at all 64 bits", () => {
  assertEquals(decodeVringFd(12, encodeU64(0x1ffn)), {
    index: 255,
    noFd: true,
  });
  for (const value of [0x200n, 1n << 32n, 1n << 63n, 0x1_0000_0001n]) {
    assertRefused(
      () => decodeVringFd(12, encodeU64(value)),
      "ring-index",
      `payload 0x${value.toString(16)} has bits beyond`,
    );
  }
});

Deno.test("decodeConfig() lets a read leave the bytes out, a write not", () => {
  const bytes = encodeConfig(4, 0, new Uint8Array(60));
  const head = bytes.subarray(0, 12);
  assertEquals(decodeConfig(24, bytes, true).size, 60);
  assertEquals(decodeConfig(24, head, true).size, 60);
  assertRefused(
    () => decodeConfig(25, head, false),
    "payload-size",
    "payload is 12 bytes, not 72",
  );
  assertRefused(
    () => decodeConfig(24, bytes.subarray(0, 71), true),
    "payload-size",
    "payload is 71 bytes, not 72",
  );
  assertRefused(
    () => decodeConfig(24, bytes.subarray(0, 11), true),
    "payload-size",
    "payload is 11 bytes, less than 12",
  );
});
