import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { fillChecksum, fillIpv4Checksum, fold, onesSum } from "./checksum.ts";
import { packet, sumsHold } from "./testing/packets.ts";

/** The definition, word by word. */
function slowSum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += bytes[i] << 8 | (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

Deno.test("onesSum() is the sum of 16-bit words, of any length", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    // 0 and 0xffff are the same number.
    const sums = [onesSum(view, 0, bytes.length, 0), slowSum(bytes)];
    assertEquals(...sums.map((sum) => sum % 0xffff) as [number, number]);
  }));
});

Deno.test("onesSum() of as many bytes as there can be, all ones", () => {
  const view = new DataView(new Uint8Array(65553).fill(0xff).buffer);
  assertEquals(
    onesSum(view, 0, 65552, 0x1fff_ffff) % 0xffff,
    0x1fff_ffff % 0xffff,
  );
});

Deno.test("fold() keeps the value modulo 0xffff", () => {
  assertEquals([fold(0), fold(0xffff), fold(0x10000)], [0, 0xffff, 1]);
  assertEquals(fold(0x7fff_ffff) % 0xffff, 0x7fff_ffff % 0xffff);
});

Deno.test("fillChecksum() completes TCP and UDP over IPv4 and IPv6", () => {
  for (const udp of [false, true]) {
    for (const ipv6 of [false, true]) {
      for (const payload of [0, 1, 99, 1460]) {
        const made = packet({ udp, ipv6, payload });
        assert(!sumsHold(made.bytes, made));
        const view = new DataView(made.bytes.buffer);
        const { transport, csumOffset } = made;
        fillChecksum(view, made.bytes.length, transport, csumOffset);
        assert(sumsHold(made.bytes, made), `${udp} ${ipv6} ${payload}`);
      }
    }
  }
});

Deno.test("a checksum of 0 becomes 0xffff: UDP would take it for none", () => {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(8, 0xffff);
  fillChecksum(view, 10, 8, 0);
  assertEquals(view.getUint16(8), 0xffff);
});

Deno.test("fillIpv4Checksum() fills in the header's checksum", () => {
  const { bytes, network, transport } = packet({ ipOptions: 8 });
  const view = new DataView(bytes.buffer);
  const right = view.getUint16(network + 10);
  view.setUint16(network + 10, 0x1234);
  fillIpv4Checksum(view, network, transport - network);
  assertEquals(view.getUint16(network + 10), right);
});
