import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { createHash } from "node:crypto";
import { runCommand } from "../../support/process.ts";
import { writeSparseFile } from "../../support/sparse_file.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { RigError } from "./error.ts";
import { FREEBSD_IMAGES } from "./freebsd_release.ts";
import {
  checksumOf,
  copyImage,
  fetchImage,
  kernelArguments,
  onDisk,
  rawImage,
  sourceFrom,
  useSerialConsole,
} from "./freebsd_source.ts";

const MIB = 2 ** 20;

function environment(
  values: Record<string, string>,
): (name: string) => string | undefined {
  return (name) => values[name];
}

Deno.test("source: nothing, an image, a kernel", () => {
  using directory = TemporaryDirectory.make("source");
  const [image, kernel] = [directory.file("a.img"), directory.file("kernel")];
  Deno.writeTextFileSync(image, "disk");
  Deno.writeFileSync(kernel, Uint8Array.fromHex("7f454c460201"));
  assertEquals(sourceFrom(environment({})), null);
  assertEquals(sourceFrom(environment({ FREEBSD_IMAGE: "" })), null);
  assertEquals(sourceFrom(environment({ FREEBSD_IMAGE: image })), {
    kind: "image",
    path: image,
  });
  assertEquals(sourceFrom(environment({ FREEBSD_KERNEL: kernel })), {
    kind: "kernel",
    kernel,
    root: null,
    args: "",
  });
  assertEquals(
    sourceFrom(environment({
      FREEBSD_KERNEL: kernel,
      FREEBSD_ROOT: image,
      FREEBSD_KERNEL_ARGS: "boot_verbose=YES",
    })),
    { kind: "kernel", kernel, root: image, args: "boot_verbose=YES" },
  );
  const refused: [Record<string, string>, string][] = [
    [{ FREEBSD_IMAGE: "/no/such" }, 'There is no "/no/such"'],
    [{ FREEBSD_IMAGE: image, FREEBSD_KERNEL: kernel }, "are two guests"],
    [{ FREEBSD_ROOT: image }, "go with FREEBSD_KERNEL"],
    [{ FREEBSD_KERNEL: image }, "is no ELF file"],
  ];
  for (const [values, message] of refused) {
    assertThrows(() => sourceFrom(environment(values)), RigError, message);
  }
});

Deno.test("source: what the kernel is told", () => {
  const told = kernelArguments("ufs:/dev/vtbd0", " boot_verbose=YES ");
  // Commas set words apart in every release, blanks in newer ones alone.
  assertEquals(
    told,
    "boot_serial=YES,hw.uart.console=io:0x3f8,vfs.mountroot.timeout=120," +
      "vfs.root.mountfrom=ufs:/dev/vtbd0,boot_verbose=YES",
  );
  // Of two values the kernel finds the first: a word of the caller is alone.
  assertEquals(
    kernelArguments(
      "ufs:/dev/vtbd0",
      "vfs.root.mountfrom=ufs:/dev/da0,boot_serial=NO\thw.x=1",
    ),
    "hw.uart.console=io:0x3f8,vfs.mountroot.timeout=120," +
      "vfs.root.mountfrom=ufs:/dev/da0,boot_serial=NO,hw.x=1",
  );
  assert(!kernelArguments(null, "").includes("mountfrom"));
  assert(kernelArguments(null, "").includes("vfs.mountroot.timeout=20"));
});

Deno.test("source: a root disk that is named is found behind SCSI, too", () => {
  const args = "boot_single=YES,vfs.root.mountfrom=ufs:/dev/vtbd0p2 a=b";
  assertEquals(onDisk(args, "vtbd0"), args);
  assertEquals(
    onDisk(args, "da0"),
    "boot_single=YES,vfs.root.mountfrom=ufs:/dev/da0p2 a=b",
  );
  for (
    const other of ["zfs:zroot/ROOT/default", "ufs:/dev/vtbd01", "ufs:/dev/md0"]
  ) {
    const kept = `vfs.root.mountfrom=${other}`;
    assertEquals(onDisk(kept, "da0"), kept);
  }
});

Deno.test("source: the boot loader is told of the serial port, wherever it reads", () => {
  using directory = TemporaryDirectory.make("source");
  const path = directory.file("disk.img");
  const comment = '#console="vidconsole"\t\t# A comma separated list';
  // One lies across two pieces that are read.
  const places = [4096, 4 * MIB - 7, 9 * MIB];
  writeSparseFile(path, 10 * MIB, places.map((at) => [at, comment] as const));
  assertEquals(useSerialConsole(path), 3);
  const bytes = Deno.readFileSync(path);
  for (const at of places) {
    assertEquals(
      new TextDecoder().decode(bytes.subarray(at, at + comment.length)),
      'console="comconsole" \t\t# A comma separated list',
    );
  }
  assertEquals(useSerialConsole(path), 0);
});

Deno.test("source: an image is unpacked, a copy keeps its holes", async () => {
  using directory = TemporaryDirectory.make("source");
  const plain = directory.file("plain.img");
  writeSparseFile(plain, 8 * MIB, [[MIB, "something"]]);
  assertEquals(await rawImage(plain, directory.path), plain);
  await runCommand("xz", { args: ["--keep", plain] });
  const unpacked = await rawImage(`${plain}.xz`, directory.path);
  assertEquals(Deno.readFileSync(unpacked), Deno.readFileSync(plain));
  assert(Deno.statSync(`${plain}.xz`).isFile);
  const copy = directory.file("copy.img");
  await copyImage(unpacked, copy);
  assertEquals(Deno.readFileSync(copy), Deno.readFileSync(plain));
  assert(Deno.statSync(copy).blocks! * 512 < MIB);
  Deno.writeFileSync(
    directory.file("bad.xz"),
    Uint8Array.fromHex("fd377a585a00"),
  );
  const error = await assertRejects(
    () => rawImage(directory.file("bad.xz"), directory.path),
    RigError,
    "Cannot unpack",
  );
  assertEquals(error.kind, "format");
});

/** A site with one image. */
function site(files: Record<string, string>): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    (request) => {
      const content = files[new URL(request.url).pathname.slice(1)];
      return content === undefined
        ? new Response("", { status: 404 })
        : new Response(content);
    },
  );
}

Deno.test("source: an image is fetched once, and only if it is the right one", async () => {
  using cache = TemporaryDirectory.make("source");
  const sum = (text: string) => createHash("sha512").update(text).digest("hex");
  const files: Record<string, string> = {
    "SUMS": `SHA512 (other.xz) = ${sum("x")}\nSHA512 (b.xz) = ${
      sum("image")
    }\n`,
    "b.xz": "image",
  };
  await using server = site(files);
  const images = {
    release: "15.0-RELEASE",
    folder: `http://127.0.0.1:${server.addr.port}/`,
    checksums: "SUMS",
    files: ["a.xz", "b.xz"],
  };
  const options = { cache: cache.path };
  const { path } = await fetchImage(options, images);
  assertEquals(Deno.readTextFileSync(path!), "image");
  files["b.xz"] = "another";
  assertEquals((await fetchImage(options, images)).path, path);

  files.SUMS = `SHA512 (b.xz) = ${sum("one more")}\n`;
  const error = await assertRejects(
    () => fetchImage(options, images),
    RigError,
    `it should have ${sum("one more")}`,
  );
  assertEquals(error.kind, "download");

  files.SUMS = "";
  const none = await fetchImage(options, images);
  assertEquals([none.path, none.reason], [
    null,
    "FreeBSD 15.0-RELEASE has no image of a known name",
  ]);
  const away = { ...images, folder: `${images.folder}nowhere/` };
  const { path: nothing, reason } = await fetchImage(options, away);
  assertEquals(nothing, null);
  assert(reason.includes("cannot be fetched from 127.0.0.1"), reason);
});

Deno.test("source: checksums in the form of sha512(1)", () => {
  const [file] = FREEBSD_IMAGES.files;
  const hex = "0123456789abcdef".repeat(8);
  assertEquals(checksumOf(`SHA512 (${file}) = ${hex}\n`, file), hex);
  assertEquals(checksumOf(`SHA512 (${file}x) = ${hex}\n`, file), null);
  assertEquals(checksumOf(`SHA256 (${file}) = ${hex}\n`, file), null);
});
