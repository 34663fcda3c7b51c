import { assert, assertEquals, assertThrows } from "@std/assert";
import { openFdCount, type OwnedFd } from "../sys/fd.ts";
import { mappingsOf, viewMemory } from "../sys/mapping.ts";
import {
  createMemfd,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  getSeals,
} from "../sys/memfd.ts";
import { addSeals } from "../sys/memfd.ts";
import { FrontEndMessage } from "./constants.ts";
import { ProtocolError, type ProtocolErrorKind } from "./errors.ts";
import { MemoryTable } from "./memory_table.ts";
import type { RegionDescription } from "./message.ts";

const ADD = FrontEndMessage.ADD_MEM_REG;
const REM = FrontEndMessage.REM_MEM_REG;
const PAGE = 4096;
const USER = 0x7f00_0000_0000;
const NAME = "vhost-table-test";

function memfd(size = 4 * PAGE): OwnedFd {
  return createMemfd(NAME, size);
}

function region(
  guestAddress: number,
  change: Partial<RegionDescription> = {},
): RegionDescription {
  return {
    guestAddress,
    size: PAGE,
    userAddress: guestAddress + USER,
    mmapOffset: 0,
    ...change,
  };
}

function assertRefused(
  run: () => unknown,
  kind: ProtocolErrorKind,
  text: string,
): void {
  const error = assertThrows(run, ProtocolError, text);
  assertEquals(error.kind, kind);
}

Deno.test("MemoryTable maps what a region describes", () => {
  const before = openFdCount();
  const table = new MemoryTable();
  const backing = memfd();
  const added = table.add(
    ADD,
    region(0x10000, { mmapOffset: 100, size: 2 * PAGE }),
    backing,
  );
  assertEquals(added.guestAddress, 0x10000);
  assertEquals(added.userAddress, 0x10000 + USER);
  assertEquals(added.fileOffset, 100);
  assertEquals(added.pageSize, PAGE);
  assertEquals(added.hostAddress % PAGE, 100);
  assertEquals(table.regions, [added]);
  assert(mappingsOf(NAME) > 0);
  table.remove(added);
  assertEquals(table.regions, []);
  assertEquals(mappingsOf(NAME), 0);
  assertEquals(openFdCount(), before);
});

Deno.test("MemoryTable shares memory, it does not copy it", () => {
  const table = new MemoryTable();
  const backing = memfd();
  const copy = backing.dup();
  const one = table.add(ADD, region(0), backing);
  const two = table.add(ADD, region(PAGE), copy);
  new Uint8Array(viewMemory(one.hostAddress, PAGE))[5] = 77;
  assertEquals(new Uint8Array(viewMemory(two.hostAddress, PAGE))[5], 77);
  table.clear();
});

Deno.test("MemoryTable refuses what it cannot map, and closes it", () => {
  const before = openFdCount();
  const table = new MemoryTable(3);
  table.add(ADD, region(0x10000, { size: 2 * PAGE }), memfd());
  const max = Number.MAX_SAFE_INTEGER;
  const cases: [RegionDescription, ProtocolErrorKind, string][] = [
    [
      region(0, { size: 0 }),
      "memory-range",
      "region of 0 bytes at guest address 0x0 is empty",
    ],
    [
      region(max, { userAddress: 0 }),
      "memory-range",
      "guestAddress is 0x1fffffffffffff",
    ],
    [
      region(0, { userAddress: max }),
      "memory-range",
      "userAddress is 0x1fffffffffffff",
    ],
    [
      region(0, { mmapOffset: max }),
      "memory-range",
      "mmapOffset is 0x1fffffffffffff",
    ],
    [
      region(0, { size: max, userAddress: 1 }),
      "memory-range",
      "ends beyond 2^53",
    ],
    [
      region(0x10000),
      "memory-overlap",
      "guestAddress 0x10000 against 0x10000, 8192 bytes",
    ],
    [
      region(0x11fff, { userAddress: 0 }),
      "memory-overlap",
      "guestAddress 0x11fff",
    ],
    [
      region(0xf001, { userAddress: 0 }),
      "memory-overlap",
      "guestAddress 0xf001",
    ],
    [
      region(0, { userAddress: 0x11000 + USER }),
      "memory-overlap",
      "userAddress",
    ],
    [region(0, { size: 5 * PAGE }), "memory-map", "the file has 16384 bytes"],
    [
      region(0, { mmapOffset: 4 * PAGE }),
      "memory-map",
      "the file has 16384 bytes",
    ],
  ];
  for (const [description, kind, text] of cases) {
    assertRefused(() => table.add(ADD, description, memfd()), kind, text);
  }
  // Adjacent is not overlapping.
  table.add(ADD, region(0xf000), memfd());
  table.add(ADD, region(0x12000), memfd());
  assertRefused(
    () => table.add(ADD, region(0x20000), memfd()),
    "memory-slots",
    "all 3 memory slots are in use",
  );
  assertEquals(table.regions.length, 3);
  table.clear();
  assertEquals(openFdCount(), before);
  assertEquals(mappingsOf(NAME), 0);
});

Deno.test("MemoryTable holds 512 regions", () => {
  const before = openFdCount();
  const table = new MemoryTable();
  const backing = memfd();
  for (let i = 0; i < 512; i++) {
    table.add(ADD, region(i * PAGE), backing.dup());
  }
  assertEquals(table.toGuest(USER + 511 * PAGE + 4, 8), 511 * PAGE + 4);
  assertRefused(
    () => table.add(ADD, region(512 * PAGE), backing.dup()),
    "memory-slots",
    "512",
  );
  table.clear();
  backing.close();
  assertEquals(openFdCount(), before);
});

Deno.test("find() goes by guest address, user address and size alone", () => {
  const table = new MemoryTable();
  const added = table.add(ADD, region(PAGE, { mmapOffset: PAGE }), memfd());
  assertEquals(table.find(REM, region(PAGE)), added);
  assertEquals(table.find(REM, region(PAGE, { mmapOffset: 12345 })), added);
  for (
    const other of [
      region(0, { userAddress: PAGE + USER }),
      region(PAGE, { userAddress: USER }),
      region(PAGE, { size: PAGE - 1 }),
    ]
  ) {
    assertRefused(
      () => table.find(REM, other),
      "memory-unknown",
      "Cannot serve VHOST_USER_REM_MEM_REG: there is no region of",
    );
  }
  table.clear();
});

Deno.test("toGuest() translates what lies in one region", () => {
  const table = new MemoryTable();
  table.add(ADD, region(0x10000), memfd());
  table.add(ADD, region(0x11000), memfd());
  const at = 0x10000 + USER;
  assertEquals(table.toGuest(at, PAGE), 0x10000);
  assertEquals(table.toGuest(at + 16, 8), 0x10010);
  assertEquals(table.toGuest(at + PAGE, 1), 0x11000);
  assertEquals(table.toGuest(at + PAGE - 8, 9), -1);
  assertEquals(table.toGuest(at - 1, 1), -1);
  assertEquals(table.toGuest(at, PAGE + 1), -1);
  assertEquals(table.toGuest(0x10000, 1), -1);
  assertEquals(table.toGuest(Number.MAX_SAFE_INTEGER, 16), -1);
  table.clear();
});

Deno.test("a memfd is sealed against shrinking where its sealing is open", () => {
  const table = new MemoryTable();
  const open = memfd();
  const shut = memfd();
  addSeals(shut.fd, F_SEAL_SEAL);
  const never = createMemfd(NAME, PAGE, { seals: false });
  const watched = [open, shut, never].map((fd) => fd.dup());
  [open, shut, never].forEach((fd, i) => table.add(ADD, region(i * PAGE), fd));
  assertEquals(
    watched.map((fd) => getSeals(fd.fd)),
    [F_SEAL_SHRINK, F_SEAL_SEAL, F_SEAL_SEAL],
  );
  table.clear();
  for (const fd of watched) fd.close();
});

Deno.test("memory that cannot be written is refused", () => {
  const table = new MemoryTable();
  const readOnly = memfd();
  addSeals(readOnly.fd, F_SEAL_WRITE);
  assertRefused(
    () => table.add(ADD, region(0), readOnly),
    "memory-map",
    "region of 4096 bytes at guest address 0x0 cannot be mapped",
  );
  assert(readOnly.closed);
});
