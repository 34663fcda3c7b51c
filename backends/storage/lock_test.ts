import { assert, assertEquals, assertThrows } from "@std/assert";
import { DataFile } from "../../sys/file.ts";
import { withDeadline } from "../../tests/support/deadline.ts";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { StorageError } from "./error.ts";
import { ImageLock } from "./lock.ts";
import { openStorage, type StorageOptions } from "./open.ts";
import { skipRest } from "../../tests/support/skip.ts";

/** What QEMU claims for, and asks before, writing a disk of a guest. */
const QEMU_WRITER = ["100,101,201,203", "200,201,101,103"] as const;
/** The same for reading one. */
const QEMU_READER = ["100,201,203", "200,101,103"] as const;

function image(directory: TemporaryDirectory): string {
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(4096));
  return path;
}

/** Opens an image several times, and tells which of the locks are refused. */
function acquireAll(
  path: string,
  ...options: readonly Partial<StorageOptions>[]
): boolean[] {
  const storages = options.map((more) => openStorage({ path, ...more }));
  try {
    return storages.map((storage) => {
      try {
        storage.acquire();
        return true;
      } catch (error) {
        assert(error instanceof StorageError && error.kind === "locked");
        return false;
      }
    });
  } finally {
    for (const storage of storages) storage.close();
  }
}

/** Another process that holds locks while `body` runs. */
async function withHolder(
  path: string,
  [claimed, asked]: readonly [string, string],
  body: (answer: { held: boolean; free: boolean }) => void,
): Promise<void> {
  const holder = new URL("./testing/lock_holder.ts", import.meta.url).pathname;
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", holder, path, claimed, asked],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const reader = process.stdout.pipeThrough(new TextDecoderStream())
    .getReader();
  try {
    const { value } = await withDeadline(reader.read(), 20_000, "lock holder");
    body(JSON.parse(value!));
  } finally {
    await process.stdin.close();
    await reader.cancel();
    await process.status;
  }
}

Deno.test("ImageLock lets one writer, or any readers, have an image", () => {
  using directory = TemporaryDirectory.make("lock");
  const path = image(directory);
  const reader = { readOnly: true };
  assertEquals(acquireAll(path, {}, {}), [true, false]);
  assertEquals(acquireAll(path, {}, reader), [true, false]);
  assertEquals(acquireAll(path, reader, {}), [true, false]);
  assertEquals(acquireAll(path, reader, reader, reader), [true, true, true]);
  // A refusal leaves nothing locked, and takes nothing from others.
  assertEquals(acquireAll(path, reader, {}, reader, {}), [
    true,
    false,
    true,
    false,
  ]);
});

Deno.test("ImageLock with sharing is never refused", () => {
  using directory = TemporaryDirectory.make("lock");
  const path = image(directory);
  const share = { share: true };
  assertEquals(acquireAll(path, share, share), [true, true]);
  assertEquals(acquireAll(path, {}, share), [true, true]);
  // Who wants the image alone sees that it is not.
  assertEquals(acquireAll(path, share, {}), [true, false]);
  assertEquals(acquireAll(path, { ...share, readOnly: true }, {}), [
    true,
    true,
  ]);
});

Deno.test("ImageLock ends with release, with close, and only once", () => {
  using directory = TemporaryDirectory.make("lock");
  const path = image(directory);
  const first = openStorage({ path }), second = openStorage({ path });
  try {
    first.acquire();
    first.acquire();
    assertEquals(first.status().locked, true);
    const error = assertThrows(() => second.acquire(), StorageError);
    assertEquals(error.kind, "locked");
    assertEquals(
      error.message,
      `Cannot serve "${path}": another process uses it; stop that, or use ` +
        "share=on",
    );
    assertEquals(second.status().locked, false);
    first.release();
    first.release();
    second.acquire();
    assertThrows(() => first.acquire(), StorageError);
    second.close();
    first.acquire();
  } finally {
    first.close();
    second.close();
  }
});

Deno.test("ImageLock keeps clear of a QEMU that writes", async () => {
  using directory = TemporaryDirectory.make("lock");
  const path = image(directory);
  const reader = { readOnly: true }, share = { share: true };
  await withHolder(path, QEMU_WRITER, (answer) => {
    assertEquals(answer, { held: true, free: true });
    assertEquals(acquireAll(path, {}), [false]);
    assertEquals(acquireAll(path, reader), [false]);
    assertEquals(acquireAll(path, share), [true]);
  });
  // It ended: so did its locks.
  assertEquals(acquireAll(path, {}), [true]);
});

Deno.test("ImageLock shares with a QEMU that reads, for reading", async () => {
  using directory = TemporaryDirectory.make("lock");
  const path = image(directory);
  await withHolder(path, QEMU_READER, (answer) => {
    assertEquals(answer, { held: true, free: true });
    assertEquals(acquireAll(path, {}), [false]);
    assertEquals(acquireAll(path, { readOnly: true }), [true]);
  });
});

Deno.test("ImageLock is seen by QEMU", async () => {
  using directory = TemporaryDirectory.make("lock");
  const path = image(directory);
  const cases: [Partial<StorageOptions>, boolean, boolean][] = [
    // options; whether QEMU may write, whether it may read
    [{}, false, false],
    [{ readOnly: true }, false, true],
    [{ share: true }, false, false],
    [{ share: true, readOnly: true }, true, true],
  ];
  for (const [options, writer, reader] of cases) {
    const storage = openStorage({ path, ...options });
    try {
      storage.acquire();
      await withHolder(path, QEMU_WRITER, ({ free }) => {
        assertEquals(free, writer, JSON.stringify(options));
      });
      await withHolder(path, QEMU_READER, ({ free }) => {
        assertEquals(free, reader, JSON.stringify(options));
      });
    } finally {
      storage.close();
    }
  }
});

Deno.test("ImageLock claims the bytes that QEMU looks at, and no others", () => {
  using directory = TemporaryDirectory.make("lock");
  const path = image(directory);
  const claimed = (options: { readOnly?: boolean; share?: boolean }) => {
    using file = DataFile.open(path, options);
    using other = DataFile.open(path);
    const lock = new ImageLock(file, options.share ?? false);
    lock.acquire();
    const bytes: number[] = [];
    for (let byte = 0; byte < 300; byte++) {
      if (!other.testLock("write", byte, 1)) bytes.push(byte);
    }
    lock.release();
    assert(other.testLock("write", 0, 0), "all are given up");
    return bytes;
  };
  assertEquals(claimed({}), [100, 101, 201, 203]);
  assertEquals(claimed({ readOnly: true }), [100, 201, 203]);
  assertEquals(claimed({ share: true }), [100, 101]);
  assertEquals(claimed({ share: true, readOnly: true }), [100]);
});

Deno.test("ImageLock keeps qemu-io from writing", async (t) => {
  using directory = TemporaryDirectory.make("lock");
  const path = image(directory);
  const write = async () => {
    try {
      const { code, stdout, stderr } = await new Deno.Command("qemu-io", {
        args: ["-f", "raw", "-c", "write -P 7 0 512", path],
      }).output();
      const decoder = new TextDecoder();
      return `${code} ${decoder.decode(stdout)}${decoder.decode(stderr)}`;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return null;
      throw error;
    }
  };
  const free = await write();
  if (free === null) {
    return await skipRest(t, "qemu-io", "there is no qemu-io in PATH");
  }
  assert(free.includes("wrote 512/512"), free);
  const storage = openStorage({ path });
  try {
    storage.acquire();
    const refused = await write();
    assert(refused!.includes('Failed to get "write" lock'), refused!);
    storage.release();
    assert((await write())!.includes("wrote 512/512"));
  } finally {
    storage.close();
  }
});
