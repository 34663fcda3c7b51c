import { assert, assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { cString, libc } from "./libc.ts";
import {
  detachMemory,
  mapAnonymous,
  mapFile,
  type Mapping,
  mappingCount,
  mappingsOf,
  pageSizeOf,
  viewMemory,
} from "./mapping.ts";
import { createMemfd } from "./memfd.ts";
import { readTextFile } from "./proc.ts";

/** There in kernels that were built with transparent huge pages. */
const HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage";

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

Deno.test("a mapped file is shared memory", () => {
  using memfd = createMemfd("shared", 3 * 4096);
  using one = mapFile(memfd.fd, { size: 3 * 4096 });
  using two = mapFile(memfd.fd, { size: 3 * 4096 });
  assert(one.address !== two.address);
  assertEquals(one.address % 4096, 0);
  new Uint8Array(one.buffer)[5000] = 77;
  assertEquals(new Uint8Array(two.buffer)[5000], 77);
});

Deno.test("offset and size can be any number", () => {
  using memfd = createMemfd("odd", 3 * 4096);
  using whole = mapFile(memfd.fd, { size: 3 * 4096 });
  const bytes = new Uint8Array(whole.buffer);
  for (let i = 0; i < bytes.length; i++) bytes[i] = i % 251;
  for (const [offset, size] of [[1, 1], [4095, 2], [4097, 8191], [8192, 1]]) {
    using part = mapFile(memfd.fd, { offset, size });
    assertEquals(part.size, size);
    assertEquals(part.buffer.byteLength, size);
    assertEquals(
      new Uint8Array(part.buffer),
      bytes.slice(offset, offset + size),
    );
  }
});

Deno.test("a range that the file does not have is refused", () => {
  using memfd = createMemfd("short", 10_000);
  const error = assertThrows(
    () => mapFile(memfd.fd, { offset: 9000, size: 1001 }),
    SystemError,
    `Cannot map 1001 bytes at offset 9000 of fd ${memfd.fd}: ` +
      "the file has 10000 bytes",
  );
  assertEquals(error.kind, "ERANGE");
  mapFile(memfd.fd, { offset: 9000, size: 1000 }).unmap();
});

Deno.test("impossible ranges are refused before the system sees them", () => {
  using memfd = createMemfd("range", 4096);
  const ranges = [
    { size: 0 },
    { size: -1 },
    { size: 1.5 },
    { size: NaN },
    { size: 1, offset: -4096 },
    { size: 2 ** 52, offset: Number.MAX_SAFE_INTEGER },
  ];
  for (const range of ranges) {
    const error = assertThrows(() => mapFile(memfd.fd, range), SystemError);
    assertEquals(error.kind, "EINVAL");
  }
  assertThrows(() => mapAnonymous(0), SystemError, "size 0");
  assertThrows(() => mapFile(-1, { size: 1 }), SystemError, "EBADF");
});

Deno.test("memory that the system does not have is an error", () => {
  const error = assertThrows(() => mapAnonymous(2 ** 50), SystemError);
  assertEquals(error.kind, "ENOMEM");
});

Deno.test("a read-only mapping needs a readable descriptor only", () => {
  using file = new OwnedFd(libc().open(cString("/etc/passwd"), 0o2000000, 0));
  const { size } = Deno.statSync("/etc/passwd");
  assertThrows(() => mapFile(file.fd, { size }), SystemError, "EACCES");
  using mapping = mapFile(file.fd, { size, writable: false });
  assertEquals(
    new TextDecoder().decode(new Uint8Array(mapping.buffer).slice()),
    Deno.readTextFileSync("/etc/passwd"),
  );
});

/** The flags that /proc/self/smaps shows for a mapping. */
function flagsOf(mapping: Mapping): string[] {
  const start = mapping.address.toString(16).padStart(8, "0");
  const lines = readTextFile("/proc/self/smaps").split("\n");
  const first = lines.findIndex((line) => line.startsWith(`${start}-`));
  const flags = lines.slice(first).find((line) => line.startsWith("VmFlags:"));
  return flags!.split(/\s+/).slice(1);
}

Deno.test("the kernel is told how memory is used", () => {
  using memfd = createMemfd("advice", 4 * 2 ** 20);
  using mapping = mapFile(memfd.fd, { size: 4 * 2 ** 20 });
  const before = flagsOf(mapping);
  assert(!before.includes("hg") && !before.includes("dd"), before.join(" "));
  assert(mapping.advise("no-dump"));
  assert(flagsOf(mapping).includes("dd"));
  // A kernel without huge pages says no.
  assertEquals(mapping.advise("huge-pages"), flagsOf(mapping).includes("hg"));
  assertEquals(flagsOf(mapping).includes("hg"), exists(HUGE_PAGES));
});

Deno.test("unmapping detaches the buffer, and happens once", () => {
  const mapping = mapAnonymous(8192);
  const bytes = new Uint8Array(mapping.buffer);
  bytes[8191] = 1;
  assert(mapping.mapped);
  mapping.unmap();
  assert(!mapping.mapped);
  assert(mapping.buffer.detached);
  assertEquals(bytes.length, 0);
  assertEquals(bytes[8191], undefined);
  // If this unmapped again, it would take the neighbour's memory away.
  using other = mapAnonymous(8192);
  mapping.unmap();
  mapping[Symbol.dispose]();
  new Uint8Array(other.buffer)[0] = 1;
});

Deno.test("views of an address see the memory until they are detached", () => {
  using mapping = mapAnonymous(4096, { shared: true });
  const view = viewMemory(mapping.address + 16, 32);
  const bytes = new Uint8Array(view);
  new Uint8Array(mapping.buffer)[16] = 9;
  assertEquals(bytes[0], 9);
  detachMemory(view);
  assertEquals(bytes.length, 0);
  detachMemory(view);
  assertEquals(new Uint8Array(mapping.buffer)[16], 9);
});

Deno.test("mappings are counted", () => {
  const before = mappingsOf("/memfd:counted");
  assertEquals(before, 0);
  using memfd = createMemfd("counted", 4096);
  {
    using _mapping = mapFile(memfd.fd, { size: 4096 });
    assertEquals(mappingsOf("/memfd:counted"), 1);
    assert(mappingCount() > 1);
  }
  assertEquals(mappingsOf("/memfd:counted"), 0);
});

Deno.test("pages are small, but on hugetlbfs", () => {
  using memfd = createMemfd("small", 4096);
  assertEquals(pageSizeOf(memfd.fd), 4096);
  let huge: OwnedFd;
  try {
    huge = createMemfd("huge", 0, { hugetlb: true });
  } catch (error) {
    console.log(`not tested: huge pages (${error})`);
    return;
  }
  using _owner = huge;
  const line = Deno.readTextFileSync("/proc/meminfo")
    .match(/Hugepagesize:\s+(\d+) kB/);
  assertEquals(pageSizeOf(huge.fd), Number(line?.[1]) * 1024);
});

Deno.test("huge pages are mapped whole around any range", () => {
  const size = 4 << 20;
  using memfd = createMemfd("huge", size, { hugetlb: true });
  let mapping;
  try {
    mapping = mapFile(memfd.fd, { size });
  } catch (error) {
    console.log(`not tested: mapping huge pages (${error})`);
    return;
  }
  using whole = mapping;
  using part = mapFile(memfd.fd, { offset: 5000, size: 100 });
  new Uint8Array(whole.buffer)[5001] = 3;
  assertEquals(new Uint8Array(part.buffer)[1], 3);
});
