import { assertEquals, assertThrows } from "@std/assert";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { HostError } from "../error.ts";
import { MadeFiles } from "./made_files.ts";

const SIZE = 1 << 20;

function names(path: string): string[] {
  return [...Deno.readDirSync(path)].map(({ name }) => name).sort();
}

Deno.test("MadeFiles leaves nothing of what nobody served", () => {
  using directory = TemporaryDirectory.make("made");
  {
    using made = new MadeFiles(directory.file("data"));
    made.makeDirectory("do without");
    made.makeImage(directory.file("data/a.img"), SIZE);
    assertEquals(Deno.statSync(directory.file("data/a.img")).size, SIZE);
  }
  assertEquals(names(directory.path), []);
});

Deno.test("MadeFiles keeps images that are served, or written", () => {
  using directory = TemporaryDirectory.make("made");
  const data = directory.file("data");
  {
    using made = new MadeFiles(data);
    made.makeDirectory("do without");
    made.makeImage(`${data}/served.img`, SIZE);
    made.keepImages();
    made.makeImage(`${data}/written.img`, SIZE);
    Deno.writeTextFileSync(`${data}/written.img`, "x", { append: true });
    made.makeImage(`${data}/a.img`, SIZE);
  }
  assertEquals(names(data), ["served.img", "written.img"]);
});

Deno.test("MadeFiles leaves alone what was there", () => {
  using directory = TemporaryDirectory.make("made");
  const data = directory.file("data");
  Deno.mkdirSync(data);
  {
    using made = new MadeFiles(data);
    made.makeDirectory("do without");
  }
  assertEquals(names(directory.path), ["data"]);
  Deno.writeTextFileSync(`${data}/full.img`, "x");
  Deno.writeTextFileSync(`${data}/empty.img`, "");
  {
    using made = new MadeFiles(data);
    made.makeImage(`${data}/full.img`, SIZE);
    made.makeImage(`${data}/empty.img`, SIZE);
  }
  assertEquals(
    names(data).map((name) => Deno.statSync(`${data}/${name}`).size),
    [SIZE, 1],
  );
});

Deno.test("MadeFiles says how to do without the directory", () => {
  using directory = TemporaryDirectory.make("made");
  const data = directory.file("data");
  Deno.writeTextFileSync(data, "");
  using made = new MadeFiles(data);
  assertThrows(
    () => made.makeDirectory("do without"),
    HostError,
    `Cannot make the directory "${data}": File exists; do without`,
  );
});
