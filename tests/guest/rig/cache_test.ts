import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ChildProcess } from "../../support/process.ts";
import { TemporaryDirectory } from "../../support/temporary_directory.ts";
import { cached, cacheDirectory, contentKey } from "./cache.ts";
import { RigError } from "./error.ts";

/** An entry of one file, which counts its builds. */
function entry(inputs: unknown[] = [1]): {
  name: string;
  inputs: unknown[];
  builds: number;
  build(into: string): Promise<void>;
} {
  return {
    name: "thing",
    inputs,
    builds: 0,
    async build(into) {
      this.builds++;
      await Deno.writeTextFile(`${into}/content`, "whole");
    },
  };
}

Deno.test("cached builds once", async () => {
  using cache = TemporaryDirectory.make("cache");
  const thing = entry();
  const path = await cached(thing, { cache: cache.path });
  assertEquals(await cached(thing, { cache: cache.path }), path);
  assertEquals(thing.builds, 1);
  assertEquals(Deno.readTextFileSync(`${path}/content`), "whole");
});

Deno.test("cached builds again for other inputs", async () => {
  using cache = TemporaryDirectory.make("cache");
  const options = { cache: cache.path };
  const paths = [
    await cached(entry([1, ["a"]]), options),
    await cached(entry([1, ["b"]]), options),
    await cached(entry([1, ["a"]]), options),
  ];
  assertEquals(paths[0], paths[2]);
  assert(paths[0] !== paths[1]);
});

Deno.test("cached makes the cache directory", async () => {
  using directory = TemporaryDirectory.make("cache");
  const cache = directory.file("a/b");
  assert((await cached(entry(), { cache })).startsWith(`${cache}/thing-`));
});

Deno.test("a build that fails leaves nothing that looks complete", async () => {
  using cache = TemporaryDirectory.make("cache");
  const thing = entry();
  const broken = {
    ...thing,
    build: async (into: string) => {
      await Deno.writeTextFile(`${into}/content`, "half");
      throw new RigError("download", "the mirror went away");
    },
  };
  const options = { cache: cache.path };
  await assertRejects(() => cached(broken, options), RigError, "went away");
  const path = await cached(thing, options);
  assertEquals(Deno.readTextFileSync(`${path}/content`), "whole");
  const names = Array.from(Deno.readDirSync(cache.path), ({ name }) => name);
  assert(names.every((name) => !name.startsWith("building-")), names.join());
});

Deno.test("cached: whoever waits finds what the other built", async () => {
  using cache = TemporaryDirectory.make("cache");
  const { promise, resolve } = Promise.withResolvers<void>();
  const started = Promise.withResolvers<void>();
  const first = {
    ...entry(),
    build: async (into: string) => {
      started.resolve();
      await promise;
      await Deno.writeTextFile(`${into}/content`, "first");
    },
  };
  const second = entry();
  const building = cached(first, { cache: cache.path });
  await started.promise;
  const waiting = cached(second, {
    cache: cache.path,
    progress: (line) => {
      assert(line.includes("waiting for another run"));
      resolve();
    },
  });
  assertEquals(await waiting, await building);
  assertEquals(second.builds, 0);
});

Deno.test("cached: a builder that is killed holds no one back", async () => {
  using cache = TemporaryDirectory.make("cache");
  await using other = ChildProcess.start(Deno.execPath(), {
    args: [
      "eval",
      `import { cached } from "${import.meta.resolve("./cache.ts")}";
       await cached({ name: "thing", inputs: [1], build: async (into) => {
         Deno.writeTextFileSync(into + "/content", "half");
         console.log("building");
         await new Promise((resolve) => setTimeout(resolve, 600_000));
       } }, { cache: "${cache.path}" });`,
    ],
    cwd: new URL("../../..", import.meta.url).pathname,
  });
  await other.expect("building", 20_000, "stdout");
  const thing = entry();
  const path = cached(thing, {
    cache: cache.path,
    progress: () => other.signal("SIGKILL"),
  });
  assertEquals(Deno.readTextFileSync(`${await path}/content`), "whole");
  assertEquals(thing.builds, 1);
});

Deno.test("the cache directory follows the environment", () => {
  const variables = (values: Record<string, string>) => (name: string) =>
    values[name];
  assertEquals(
    cacheDirectory(variables({ VHOSTD_CACHE: "/big/cache", HOME: "/home/u" })),
    "/big/cache",
  );
  assertEquals(
    cacheDirectory(variables({ VHOSTD_CACHE: "", HOME: "/home/u" })),
    "/home/u/.cache/vhostd",
  );
  const error = assertThrows(() => cacheDirectory(variables({})), RigError);
  assertEquals(error.kind, "platform");
});

Deno.test("contentKey tells lists apart that would join to the same", async () => {
  const keys = await Promise.all([["ab"], ["a", "b"], [["a"], "b"]]
    .map((inputs) => contentKey(inputs)));
  assertEquals(new Set(keys).size, 3);
  assert(keys.every((key) => /^[0-9a-f]{12}$/.test(key)));
});
