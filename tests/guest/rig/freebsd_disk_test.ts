import { assertEquals } from "@std/assert";
import { writeSparseFile } from "../../support/sparse_file.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { likelyRoots, mountFrom, ufsState } from "./freebsd_disk.ts";

const MIB = 2 ** 20;

const UFS2 = Uint8Array.fromHex("19015419");

Deno.test("disk: the root file system of an image", () => {
  using directory = TemporaryDirectory.make("source");
  const path = directory.file("root.img");
  writeSparseFile(path, MIB, [[65536 + 1372, UFS2]]);
  assertEquals(mountFrom(path, "vtbd0"), "ufs:/dev/vtbd0");
  writeSparseFile(path, MIB, [[8192 + 1372, Uint8Array.fromHex("54190100")]]);
  assertEquals(mountFrom(path, "da0"), "ufs:/dev/da0");
  writeSparseFile(path, MIB, [[32769, "CD001"]]);
  assertEquals(mountFrom(path, "da0"), "cd9660:/dev/da0");
  writeSparseFile(path, MIB, []);
  assertEquals(mountFrom(path, "da0"), null);
});

Deno.test("disk: the root partition of a GPT", () => {
  using directory = TemporaryDirectory.make("source");
  const path = directory.file("root.img");
  const header = new Uint8Array(92);
  header.set(new TextEncoder().encode("EFI PART"));
  const view = new DataView(header.buffer);
  view.setBigUint64(72, 2n, true);
  view.setUint32(80, 128, true);
  view.setUint32(84, 128, true);
  // freebsd-boot, freebsd-swap, freebsd-ufs, as gpt(8) writes their types
  const types = [
    "9d6bbd83417fdc11be0b001560b84f0f",
    "b57c6e51cf6ed6118ff800022d09712b",
    "b67c6e51cf6ed6118ff800022d09712b",
  ];
  const entry = (i: number, type: string) =>
    [1024 + 128 * i, Uint8Array.fromHex(type)] as const;
  writeSparseFile(path, MIB, [
    [512, header],
    ...types.map((t, i) => entry(i, t)),
  ]);
  assertEquals(mountFrom(path, "vtbd0"), "ufs:/dev/vtbd0p3");
  writeSparseFile(path, MIB, [[512, header], entry(0, types[0])]);
  assertEquals(mountFrom(path, "vtbd0"), null);
});

Deno.test("disk: whether UFS was unmounted, on its own and in a partition", () => {
  using directory = TemporaryDirectory.make("disk");
  const path = directory.file("root.img");
  const clean = Uint8Array.of(1), dirty = Uint8Array.of(0);
  writeSparseFile(path, MIB, [[65536 + 1372, UFS2], [65536 + 209, clean]]);
  assertEquals(ufsState(path), "clean");
  writeSparseFile(path, MIB, [[65536 + 1372, UFS2], [65536 + 209, dirty]]);
  assertEquals(ufsState(path), "in use");
  writeSparseFile(path, MIB, []);
  assertEquals(ufsState(path), "unknown");

  const header = new Uint8Array(92);
  header.set(new TextEncoder().encode("EFI PART"));
  const view = new DataView(header.buffer);
  view.setBigUint64(72, 2n, true);
  view.setUint32(80, 128, true);
  view.setUint32(84, 128, true);
  const entry = new Uint8Array(128);
  entry.set(Uint8Array.fromHex("b67c6e51cf6ed6118ff800022d09712b"));
  new DataView(entry.buffer).setBigUint64(32, 1024n, true);
  const at = 1024 * 512 + 65536;
  writeSparseFile(path, 2 * MIB, [
    ...[[512, header], [1024 + 128, entry]] as const,
    ...[[at + 1372, UFS2], [at + 209, clean]] as const,
  ]);
  assertEquals(mountFrom(path, "da0"), "ufs:/dev/da0p2");
  assertEquals(ufsState(path), "clean");
});

Deno.test("disk: guesses begin with the whole disk and name no other", () => {
  const guesses = likelyRoots("da0");
  assertEquals(guesses[0], "ufs:/dev/da0");
  const other = (guess: string) =>
    guess.includes("/dev/") && !guess.includes("da0");
  assertEquals(guesses.filter(other), []);
});
