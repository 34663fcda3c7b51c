import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { NetHeader } from "./header.ts";
import { MAX_FRAME } from "./protocol.ts";
import { SEGMENT_GROWTH, Segmenter } from "./segment.ts";
import {
  type HeaderFields,
  headerWords,
  type Packet,
  packet,
  type PacketOptions,
  partialHeader,
  sumsHold,
} from "./testing/packets.ts";

const PIECE = 65600;
const memory = new Uint8Array(PIECE + MAX_FRAME + SEGMENT_GROWTH);
const segmenter = new Segmenter(memory, PIECE);

/** The pieces of a packet, or `null` when it is refused. */
function cut(
  made: Packet,
  fields: HeaderFields,
): Uint8Array<ArrayBuffer>[] | null {
  memory.fill(0xee);
  memory.set(made.bytes);
  const header = new NetHeader();
  header.decode(headerWords(partialHeader(made, fields)));
  if (!segmenter.begin(made.bytes.length, header)) return null;
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  for (;;) {
    const length = segmenter.next();
    if (length === 0) return pieces;
    pieces.push(memory.slice(PIECE, PIECE + length));
  }
}

function joined(parts: readonly Uint8Array[]): number[] {
  return parts.flatMap((part) => [...part]);
}

for (const ipv6 of [false, true]) {
  const name = ipv6 ? "IPv6" : "IPv4";
  const type = ipv6 ? 4 : 1;

  Deno.test(`TCP over ${name} becomes segments`, () => {
    const FIN_PSH_ACK_CWR = 0x80 | 0x10 | 0x08 | 0x01;
    const variants: PacketOptions[] = [
      {},
      { vlan: 7 },
      { tcpOptions: 12 },
      ...(ipv6 ? [] : [{ ipOptions: 8 }]),
    ];
    for (const options of variants) {
      const made = packet({
        ipv6,
        payload: 3501,
        flags: FIN_PSH_ACK_CWR,
        ...options,
      });
      const pieces = cut(made, { gsoType: type, gsoSize: 1000 })!;
      assertEquals(
        pieces.map((piece) => piece.length - made.payload),
        [1000, 1000, 1000, 501],
      );
      assertEquals(
        joined(pieces.map((piece) => piece.subarray(made.payload))),
        [...made.bytes.subarray(made.payload)],
      );
      pieces.forEach((piece, i) => {
        assert(sumsHold(piece, made), `checksums of piece ${i}`);
        const view = new DataView(piece.buffer);
        assertEquals(
          piece.subarray(0, made.network),
          made.bytes.subarray(0, made.network),
        );
        assertEquals(
          view.getUint32(made.transport + 4),
          (0xffff_fff0 + 1000 * i) % 2 ** 32,
        );
        if (ipv6) {
          assertEquals(
            view.getUint16(made.network + 4),
            piece.length - made.transport,
          );
        } else {
          assertEquals(
            view.getUint16(made.network + 2),
            piece.length - made.network,
          );
          assertEquals(
            view.getUint16(made.network + 4),
            (0xfffe + i) & 0xffff,
          );
        }
      });
      assertEquals(
        pieces.map((piece) => piece[made.transport + 13]),
        [0x90, 0x10, 0x10, 0x19],
      );
    }
  });

  Deno.test(`UDP over ${name} becomes fragments`, () => {
    const made = packet({ ipv6, udp: true, payload: 3000, vlan: 5 });
    const pieces = cut(made, { gsoType: 3, gsoSize: 1007 })!;
    const growth = ipv6 ? 8 : 0;
    const start = made.transport + growth;
    assertEquals(
      pieces.map((piece) => piece.length - start),
      [1000, 1000, 1000, 8],
    );
    const whole = made.bytes.slice();
    whole.set(
      joined(pieces.map((piece) => piece.subarray(start))),
      made.transport,
    );
    assert(sumsHold(whole, made), "the datagram's checksum");
    assertEquals(
      whole.subarray(made.payload),
      made.bytes.subarray(made.payload),
    );
    const offsets = pieces.map((piece) => {
      const view = new DataView(piece.buffer);
      if (!ipv6) {
        const field = view.getUint16(made.network + 6);
        return [(field & 0x1fff) * 8, field >> 13];
      }
      assertEquals(piece[made.network + 6], 44);
      assertEquals(piece[made.transport], 17);
      const field = view.getUint16(made.transport + 2);
      return [field & ~7, field & 7];
    });
    assertEquals(offsets, [[0, 1], [1000, 1], [2000, 1], [3000, 0]]);
    const identities = pieces.map((piece) => {
      const view = new DataView(piece.buffer);
      return ipv6
        ? view.getUint32(made.transport + 4)
        : view.getUint16(made.network + 4);
    });
    assertEquals(new Set(identities).size, 1);
  });
}

Deno.test("a frame that is not what its header says is refused", () => {
  const tcp = packet({ payload: 2000 });
  const tso = { gsoType: 1, gsoSize: 500 };
  assert(cut(tcp, tso) !== null);
  // Another protocol than the type says, and the other way round.
  assertEquals(cut(tcp, { ...tso, gsoType: 4 }), null);
  assertEquals(cut(tcp, { ...tso, gsoType: 3 }), null);
  assertEquals(cut(packet({ udp: true, payload: 2000 }), tso), null);
  // A checksum elsewhere.
  assertEquals(cut(tcp, { ...tso, csumStart: tcp.transport + 4 }), null);
  assertEquals(cut(tcp, { ...tso, csumOffset: 6 }), null);
  // No payload: there is nothing to cut.
  assertEquals(cut(packet({ payload: 0 }), tso), null);
  // Fragments of 0 bytes would never end.
  const udp = packet({ udp: true, payload: 2000 });
  assertEquals(cut(udp, { gsoType: 3, gsoSize: 7 }), null);
  const broken: [number, number][] = [
    [tcp.network, 0x46], // a longer header than there is room for
    [tcp.network, 0x44], // a shorter one than there is
    [tcp.network, 0x65], // another version
    [tcp.network + 6, 0x20], // a fragment
    [tcp.transport + 12, 0x40], // a header of 16 bytes
    [tcp.network - 2, 0x86], // no IP at all
  ];
  for (const [at, value] of broken) {
    const bytes = tcp.bytes.slice();
    bytes[at] = value;
    assertEquals(cut({ ...tcp, bytes }, tso), null, `byte ${at}`);
  }
  const longHeader = packet({ payload: 4 });
  longHeader.bytes[longHeader.transport + 12] = 0xf0;
  assertEquals(cut(longHeader, tso), null);
});

Deno.test("whatever a frame says, pieces end and stay in their room", () => {
  const frames = fc.record({
    bytes: fc.uint8Array({ minLength: 18, maxLength: 400 }),
    ethertype: fc.constantFrom(0x0800, 0x86dd, 0x8100, 0),
    first: fc.constantFrom(0x45, 0x46, 0x60, 0),
    protocol: fc.constantFrom(6, 17),
    gsoType: fc.constantFrom(1, 3, 4),
    gsoSize: fc.integer({ min: 1, max: 600 }),
    csumStart: fc.constantFrom(34, 38, 54, 58, 100),
    csumOffset: fc.constantFrom(6, 16, 20),
  });
  fc.assert(fc.property(frames, (given) => {
    const { bytes, gsoType, gsoSize, csumStart, csumOffset } = given;
    if (csumStart + csumOffset + 2 > bytes.length) return;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    view.setUint16(12, given.ethertype);
    bytes[14] = given.first;
    if (bytes.length > 23) bytes[23] = given.protocol;
    memory.set(bytes);
    memory.fill(0xee, PIECE - 64);
    const header = new NetHeader();
    Object.assign(header, {
      flags: 1,
      gsoType,
      gsoSize,
      csumStart,
      csumOffset,
    });
    if (!segmenter.begin(bytes.length, header)) return;
    let pieces = 0;
    for (let length = -1; length !== 0; pieces++) {
      length = segmenter.next();
      assert(length <= bytes.length + SEGMENT_GROWTH);
    }
    assert(pieces <= bytes.length);
    assertEquals(memory[PIECE - 1], 0xee);
  }));
});
