import { assertEquals } from "@std/assert";
import {
  HEADER_CSUM_FEATURE,
  HEADER_CSUM_RANGE,
  HEADER_GSO_CSUM,
  HEADER_GSO_SIZE,
  HEADER_GSO_TYPE,
  HEADER_LENGTH,
  HEADER_OK,
  NetHeader,
} from "./header.ts";
import { Offload } from "./protocol.ts";
import {
  type HeaderFields,
  headerWords,
  virtioHeader,
} from "./testing/packets.ts";

const { CSUM, TSO4, TSO6, ECN, UFO } = Offload;
const ALL = CSUM | TSO4 | TSO6 | ECN | UFO;

function check(fields: HeaderFields, length = 100, offloads = ALL): number {
  const header = new NetHeader();
  header.decode(headerWords(virtioHeader(fields)));
  return header.check(length, offloads);
}

Deno.test("a header that asks for nothing is in order, whatever else it says", () => {
  assertEquals(check({}), HEADER_OK);
  const header = new NetHeader();
  header.decode(headerWords(virtioHeader({
    flags: 2 | 4,
    csumStart: 9000,
    csumOffset: 9000,
    gsoSize: 7,
    headerLength: 9000,
  })));
  assertEquals(header.check(60, 0), HEADER_OK);
  assertEquals(header.needs, 0);
  const words = new Uint32Array(3);
  header.encode(words, 3);
  const bytes = new Uint8Array(words.buffer);
  assertEquals([...bytes], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
});

Deno.test("a checksum lies in the frame, and was negotiated", () => {
  const good = { flags: 1, csumStart: 34, csumOffset: 16 };
  assertEquals(check(good, 52), HEADER_OK);
  assertEquals(check(good, 51), HEADER_CSUM_RANGE);
  assertEquals(check(good, 52, 0), HEADER_CSUM_FEATURE);
  assertEquals(check({ ...good, csumStart: 13 }), HEADER_CSUM_RANGE);
  assertEquals(check({ ...good, csumStart: 0xffff }), HEADER_CSUM_RANGE);
  assertEquals(
    check({ ...good, csumOffset: 0xffff }, 65000),
    HEADER_CSUM_RANGE,
  );
});

Deno.test("segmentation was negotiated, and is complete", () => {
  const base = { flags: 1, csumStart: 34, csumOffset: 16, gsoSize: 1448 };
  for (
    const [gsoType, needed] of [
      [1, TSO4],
      [4, TSO6],
      [3, UFO],
      [0x81, TSO4 | ECN],
      [0x84, TSO6 | ECN],
    ]
  ) {
    const good = { ...base, gsoType };
    assertEquals(check(good), HEADER_OK);
    assertEquals(check(good, 100, CSUM | needed), HEADER_OK);
    assertEquals(check(good, 100, ALL & ~needed), HEADER_GSO_TYPE);
    assertEquals(check({ ...good, gsoSize: 0 }), HEADER_GSO_SIZE);
    assertEquals(check({ ...good, flags: 0 }), HEADER_GSO_CSUM);
    assertEquals(check({ ...good, headerLength: 101 }), HEADER_LENGTH);
    assertEquals(check({ ...good, headerLength: 100 }), HEADER_OK);
  }
  for (const gsoType of [2, 5, 6, 0x80, 0x83, 0xff]) {
    assertEquals(check({ ...base, gsoType }), HEADER_GSO_TYPE);
  }
});

Deno.test("what is decoded is encoded", () => {
  const header = new NetHeader();
  const from = virtioHeader({
    flags: 1,
    gsoType: 0x84,
    headerLength: 0x1234,
    gsoSize: 0x5678,
    csumStart: 0x9abc,
    csumOffset: 0xdef0,
  });
  header.decode(headerWords(from));
  const copy = new NetHeader();
  copy.copy(header);
  header.clear();
  assertEquals(header.needs, 0);
  const words = new Uint32Array(3);
  copy.encode(words, 0);
  assertEquals(new Uint8Array(words.buffer), from);
  assertEquals(copy.needs, CSUM | TSO6 | ECN);
});
