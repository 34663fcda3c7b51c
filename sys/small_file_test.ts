import { assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "./errno.ts";
import { openFdCount } from "./fd.ts";
import {
  OutputFile,
  readIfThere,
  realPath,
  removeFile,
  renameFile,
  replaceFile,
} from "./small_file.ts";

function inDirectory(body: (path: (name: string) => string) => void): void {
  const directory = Deno.makeTempDirSync();
  try {
    body((name) => `${directory}/${name}`);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test("a file is replaced as one, and nothing is left beside it", () => {
  inDirectory((path) => {
    assertEquals(readIfThere(path("a")), null);
    const before = openFdCount();
    replaceFile(path("a"), "first\n");
    assertEquals(readIfThere(path("a")), "first\n");
    assertEquals(Deno.statSync(path("a")).mode! & 0o777, 0o600);
    // What a crash left is no obstacle.
    Deno.writeTextFileSync(path("a.new"), "a part of something longer");
    replaceFile(path("a"), "second: é\n");
    assertEquals(Deno.readTextFileSync(path("a")), "second: é\n");
    assertEquals([...Deno.readDirSync(path(""))].length, 1);
    removeFile(path("a"));
    removeFile(path("a"));
    assertEquals([...Deno.readDirSync(path(""))].length, 0);
    assertEquals(openFdCount(), before);
  });
});

Deno.test("a file is written in pieces, and given another name", () => {
  inDirectory((path) => {
    const bytes = (text: string) => new TextEncoder().encode(text);
    {
      using file = new OutputFile(path("a"), 0o640);
      file.write(bytes("one "));
      file.write(bytes("two"));
      file.sync();
    }
    Deno.writeTextFileSync(path("b"), "old");
    renameFile(path("a"), path("b"));
    assertEquals(Deno.readTextFileSync(path("b")), "one two");
    using again = new OutputFile(path("b"));
    again.write(bytes("x"));
    assertEquals(Deno.readTextFileSync(path("b")), "x");
  });
});

Deno.test("a path is found behind its links", () => {
  inDirectory((path) => {
    Deno.writeTextFileSync(path("file"), "");
    Deno.symlinkSync("file", path("link"));
    assertEquals(realPath(path("link")), Deno.realPathSync(path("link")));
    assertThrows(() => realPath(path("none")), SystemError, "ENOENT");
  });
});

Deno.test("what cannot be is a SystemError that names the path", () => {
  inDirectory((path) => {
    const missing = path("no/such");
    assertThrows(() => new OutputFile(missing), SystemError, missing);
    assertThrows(() => replaceFile(missing, ""), SystemError, missing);
    assertThrows(() => renameFile(missing, path("a")), SystemError, "ENOENT");
    assertThrows(() => removeFile(path("")), SystemError, "EISDIR");
    assertThrows(() => readIfThere(path("")), SystemError, "EISDIR");
  });
});
