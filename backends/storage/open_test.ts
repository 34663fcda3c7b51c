import { assert, assertEquals, assertThrows } from "@std/assert";
import { openFdCount } from "../../sys/fd.ts";
import { createMemfd } from "../../sys/memfd.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { DataFile } from "../../sys/file.ts";
import { probeNowait } from "../../sys/nowait.ts";
import { StorageError, type StorageErrorKind } from "./error.ts";
import { openStorage, type StorageOptions } from "./open.ts";
import { skipRest } from "../../tests/support/skip.ts";

function refusal(options: StorageOptions): StorageError {
  const fds = openFdCount();
  const error = assertThrows(() => openStorage(options), StorageError);
  assertEquals(openFdCount(), fds);
  assertEquals(error.path, options.path);
  assert(error.message.startsWith(`Cannot serve "${options.path}": `));
  return error;
}

function expectRefusal(
  options: StorageOptions,
  kind: StorageErrorKind,
  reason: string,
): void {
  const error = refusal(options);
  assertEquals(error.kind, kind);
  assertEquals(error.message, `Cannot serve "${options.path}": ${reason}`);
}

Deno.test("openStorage() says that there is no such file", () => {
  using directory = TemporaryDirectory.make("open");
  const path = directory.file("none.img");
  const reason = `there is no such file; make one with: ` +
    `truncate -s 1G "${path}"`;
  expectRefusal({ path }, "not-found", reason);
  expectRefusal({ path, readOnly: true, direct: true }, "not-found", reason);
  const device = "/dev/vhostd-no-such-device";
  expectRefusal({ path: device }, "not-found", "there is no such device");
});

Deno.test("openStorage() takes files and block devices only", async () => {
  using directory = TemporaryDirectory.make("open");
  expectRefusal(
    { path: directory.path },
    "not-a-disk",
    "it is a directory, not an image file or block device",
  );
  const neither = "it is neither a regular file nor a block device";
  expectRefusal({ path: "/dev/null" }, "not-a-disk", neither);
  expectRefusal({ path: "/dev/null", direct: true }, "not-a-disk", neither);
  const pipe = directory.file("pipe");
  await new Deno.Command("mkfifo", { args: [pipe] }).output();
  expectRefusal({ path: pipe }, "not-a-disk", neither);
  const socket = directory.file("socket");
  using _listener = Deno.listen({ transport: "unix", path: socket });
  expectRefusal({ path: socket }, "not-a-disk", neither);
});

Deno.test("openStorage() takes whole blocks only", () => {
  using directory = TemporaryDirectory.make("open");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(1000));
  expectRefusal(
    { path },
    "size",
    "file size 1000 is not a multiple of 512",
  );
  Deno.writeFileSync(path, new Uint8Array(4608));
  expectRefusal(
    { path, blockSize: 4096 },
    "size",
    "file size 4608 is not a multiple of 4096",
  );
  openStorage({ path, blockSize: 512 }).close();
  Deno.writeFileSync(path, new Uint8Array());
  expectRefusal(
    { path },
    "size",
    `file size is 0; give it one with: truncate -s 1G "${path}"`,
  );
});

Deno.test("openStorage() refuses other formats unless told", () => {
  using directory = TemporaryDirectory.make("open");
  const path = directory.file("vm.qcow2");
  const bytes = new Uint8Array(65536);
  bytes.set([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3]);
  Deno.writeFileSync(path, bytes);
  expectRefusal(
    { path },
    "format",
    "it is a qcow2 image, and only raw images are served; convert it with: " +
      `qemu-img convert -f qcow2 -O raw "${path}" "${directory.path}/vm.raw" ` +
      "(or say format=raw to serve these very bytes)",
  );
  const raw = openStorage({ path, format: "raw" });
  assertEquals(raw.capacity, 65536);
  raw.close();
  // The format is told before the size, which is often odd, too.
  bytes.set([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]);
  Deno.writeFileSync(path, bytes.subarray(0, 1001));
  assertEquals(refusal({ path }).kind, "format");
  // A footer counts as well, and is found with direct I/O.
  bytes.fill(0);
  bytes.set(new TextEncoder().encode("conectix"), 65536 - 512);
  Deno.writeFileSync(path, bytes);
  assertEquals(refusal({ path }).kind, "format");
});

Deno.test("openStorage() says what may not be read or written", async (t) => {
  using directory = TemporaryDirectory.make("open");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(4096));
  if (Deno.uid() === 0) {
    return await skipRest(t, "as root", "root may read and write every file");
  }
  Deno.chmodSync(path, 0o400);
  expectRefusal(
    { path },
    "permission",
    "this user may not write it; use readonly=on, or change its mode",
  );
  openStorage({ path, readOnly: true }).close();
  Deno.chmodSync(path, 0);
  expectRefusal({ path }, "permission", "this user may not read it");
  expectRefusal(
    { path, readOnly: true },
    "permission",
    "this user may not read it",
  );
});

Deno.test("openStorage() says where there is no direct I/O", () => {
  expectRefusal(
    { path: "/proc/cmdline", readOnly: true, direct: true },
    "direct",
    "its file system has no direct I/O; use direct=off",
  );
});

Deno.test("openStorage() refuses engines that do not exist", () => {
  using directory = TemporaryDirectory.make("open");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(4096));
  expectRefusal(
    { path, engine: "warp" },
    "system",
    'there is no engine "warp", but auto, io_uring, sync',
  );
  for (const engine of ["auto", "sync"]) {
    const storage = openStorage({ path, engine });
    assertEquals(storage.status().engine, "sync");
    storage.close();
  }
});

Deno.test("openStorage() describes the image", () => {
  using directory = TemporaryDirectory.make("open");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(8192));
  Deno.truncateSync(path, 2 ** 40);
  const storage = openStorage({ path });
  try {
    assertEquals(storage.capacity, 2 ** 40);
    assertEquals(storage.blockSize, 512);
    assertEquals(storage.optimalSize, 4096);
    assertEquals(storage.discardGranularity, 4096);
    assertEquals(storage.readOnly, false);
    const { allocatedBytes, ...status } = storage.status();
    assert((allocatedBytes as number) < 2 ** 20);
    assertEquals(status, {
      path,
      kind: "file",
      engine: "sync",
      filesystem: status.filesystem,
      direct: false,
      locked: false,
      shortTransfers: 0,
      bouncedTransfers: 0,
      writtenZeroes: 0,
      ignoredDiscards: 0,
    });
  } finally {
    storage.close();
  }
});

Deno.test("openStorage() leaves the image as it is", () => {
  using memfd = createMemfd("disk", 65536);
  const path = `/proc/self/fd/${memfd.fd}`;
  const bytes = crypto.getRandomValues(new Uint8Array(65536));
  Deno.writeFileSync(path, bytes);
  openStorage({ path }).close();
  assertEquals(Deno.readFileSync(path), bytes);
});

Deno.test("openStorage() does without a ring unless it must have one", () => {
  using directory = TemporaryDirectory.make("open");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(4096));
  const fds = openFdCount();
  for (const engine of [undefined, "auto"]) {
    const storage = openStorage({ path, engine }, () => null);
    assertEquals(storage.status().engine, "sync");
    storage.close();
  }
  const error = assertThrows(
    () => openStorage({ path, engine: "io_uring" }, () => null),
    StorageError,
  );
  assertEquals(openFdCount(), fds);
  assertEquals(error.kind, "system");
  assertEquals(
    error.message,
    `Cannot serve "${path}": there is no io_uring here (missing in the ` +
      "kernel, or forbidden); use engine=auto or engine=sync",
  );
});

Deno.test("openStorage() asks for no ring where nothing can be tried", async (t) => {
  using memfd = createMemfd("disk", 65536);
  const path = `/proc/self/fd/${memfd.fd}`;
  {
    using file = DataFile.open(path);
    const { read, write } = probeNowait(file);
    if (read || write) {
      return await skipRest(t, "memfd", "this kernel's tmpfs does not wait");
    }
  }
  const storage = openStorage({ path }, () => {
    throw new Error("asked for a ring");
  });
  assertEquals(storage.status().engine, "sync");
  storage.close();
  if (!IoUring.supported()) {
    return await skipRest(t, "io_uring", "io_uring is not available");
  }
  // Who insists gets it all the same.
  using ring = new IoUring();
  const forced = openStorage({ path, engine: "io_uring" }, () => ring);
  assertEquals(forced.status().engine, "io_uring");
  forced.close();
});
