import { assertEquals } from "@std/assert";
import { CtrlRx } from "./protocol.ts";
import { FILTER_ENTRIES, RxFilter } from "./rx_filter.ts";
import { ALICE, BOB, BROADCAST } from "./testing/packets.ts";

const GROUP = [0x33, 0x33, 0, 0, 0, 1];
const OTHER_GROUP = [0x33, 0x33, 0, 0, 0, 2];

function frame(to: readonly number[], vlan?: number): Uint8Array {
  const tag = vlan === undefined ? [8, 0] : [0x81, 0, vlan >> 8, vlan & 255];
  return new Uint8Array([...to, ...BOB, ...tag, 0, 0, 0, 0]);
}

/** What passes of: own, somebody else's, two groups, everybody. */
function passes(filter: RxFilter): number[] {
  return [ALICE, BOB, GROUP, OTHER_GROUP, BROADCAST]
    .map((to) => filter.accepts(frame(to)) ? 1 : 0);
}

function filterOf(...modes: number[]): RxFilter {
  const filter = new RxFilter();
  filter.setMac(new Uint8Array(ALICE));
  filter.setMode(CtrlRx.PROMISC, false);
  for (const mode of modes) filter.setMode(mode, true);
  return filter;
}

Deno.test("everything passes until the driver says otherwise", () => {
  assertEquals(passes(new RxFilter()), [1, 1, 1, 1, 1]);
});

Deno.test("what is turned off stays away, in promiscuous mode too", () => {
  const off = [
    [CtrlRx.NOUNI, [0, 0, 1, 1, 1]],
    [CtrlRx.NOMULTI, [1, 1, 0, 0, 1]],
    [CtrlRx.NOBCAST, [1, 1, 1, 1, 0]],
  ] as const;
  for (const [mode, expected] of off) {
    const filter = filterOf(CtrlRx.PROMISC, mode);
    assertEquals(passes(filter), [...expected]);
    filter.setMode(mode, false);
    assertEquals(passes(filter), [1, 1, 1, 1, 1]);
    // A copy filters as the original does.
    filter.setMode(mode, true);
    const copy = new RxFilter();
    copy.restore(filter.save());
    assertEquals(passes(copy), [...expected]);
  }
  const filter = filterOf(CtrlRx.PROMISC);
  filter.filterVlans();
  assertEquals(filter.accepts(frame(ALICE, 5)), false);
  const copy = new RxFilter();
  copy.restore(filter.save());
  assertEquals(copy.accepts(frame(ALICE, 5)), false);
});

Deno.test("each mode lets pass what it says", () => {
  assertEquals(passes(filterOf()), [1, 0, 0, 0, 1]);
  assertEquals(passes(filterOf(CtrlRx.ALLMULTI)), [1, 0, 1, 1, 1]);
  assertEquals(passes(filterOf(CtrlRx.ALLUNI)), [1, 1, 0, 0, 1]);
  assertEquals(passes(filterOf(CtrlRx.PROMISC)), [1, 1, 1, 1, 1]);
  assertEquals(passes(filterOf(CtrlRx.NOBCAST)), [1, 0, 0, 0, 0]);
  assertEquals(
    passes(filterOf(CtrlRx.PROMISC, CtrlRx.NOMULTI)),
    [1, 1, 0, 0, 1],
  );
  assertEquals(
    passes(filterOf(CtrlRx.ALLMULTI, CtrlRx.NOUNI)),
    [0, 0, 1, 1, 1],
  );
});

Deno.test("addresses of the tables pass; tables that overflow let all pass", () => {
  const filter = filterOf();
  filter.setTable(false, new Uint8Array([...OTHER_GROUP, ...BOB]), 2);
  filter.setTable(true, new Uint8Array(GROUP), 1);
  assertEquals(passes(filter), [1, 1, 1, 0, 1]);
  filter.setTable(false, new Uint8Array(0), 0);
  filter.setTable(true, new Uint8Array(0), FILTER_ENTRIES + 1);
  assertEquals(passes(filter), [1, 0, 1, 1, 1]);
  filter.setTable(true, new Uint8Array(0), 0);
  filter.setTable(false, new Uint8Array(0), 2 ** 31);
  assertEquals(passes(filter), [1, 1, 0, 0, 1]);
  filter.reset();
  assertEquals(passes(filter), [1, 1, 1, 1, 1]);
});

Deno.test("tagged frames pass for their VLANs once these are filtered", () => {
  const filter = new RxFilter();
  assertEquals(filter.accepts(frame(ALICE, 9)), true);
  filter.filterVlans();
  filter.setVlan(9, true);
  filter.setVlan(4095, true);
  const ids = [0, 8, 9, 10, 4095];
  const accepted = () => ids.filter((id) => filter.accepts(frame(ALICE, id)));
  assertEquals(accepted(), [9, 4095]);
  // Priority bits are no part of the number.
  assertEquals(filter.accepts(frame(ALICE, 9 | 0xe000)), true);
  filter.setVlan(9, false);
  assertEquals(accepted(), [4095]);
  assertEquals(filter.accepts(frame(ALICE)), true);
});
