import { assertEquals, assertThrows } from "@std/assert";
import { OptionError } from "../option_reader.ts";
import {
  BALLOON_OPTIONS,
  MAX_BALLOON_SIZE,
  resolveBalloonOptions,
} from "./options.ts";

Deno.test("everything has a default", () => {
  assertEquals(resolveBalloonOptions({}), {
    pages: 0,
    statsInterval: 10,
    features: 0b11_0111n,
  });
});

Deno.test("options say what they say", () => {
  const size = MAX_BALLOON_SIZE;
  assertEquals(
    resolveBalloonOptions({ size, statsInterval: 0, pagePoison: false }),
    { pages: 2 ** 32 - 1, statsInterval: 0, features: 0b10_0111n },
  );
});

Deno.test("options that cannot be are refused by name", () => {
  for (
    const [options, option, right] of [
      [{ size: 4097 }, "size", "it is a multiple of 4096"],
      [{ size: -1 }, "size", "it is an integer from 0"],
      [{ size: MAX_BALLOON_SIZE + 4096 }, "size", "it is an integer from 0"],
      [{ statsInterval: 0.5 }, "stats-interval", "it is an integer from 0"],
      [{ statsInterval: "1" }, "stats-interval", "it is an integer from 0"],
      [{ stats: "on" }, "stats", "it is on or off"],
      [{ mustTellHost: 1 }, "must-tell-host", "it is on or off"],
    ] as const
  ) {
    const [value] = Object.values(options);
    const error = assertThrows(
      () => resolveBalloonOptions(options),
      OptionError,
      `Cannot use ${option}=${value}: ${right}`,
    );
    assertEquals([error.option, error.kind], [option, "usage"]);
  }
});

Deno.test("options that there are not are refused", () => {
  assertThrows(
    () => resolveBalloonOptions({ "stats-interval": 1 }),
    OptionError,
    '"stats-interval" is no option (did you mean "statsInterval"?)',
  );
});

Deno.test("the schema names every option once", () => {
  const names = BALLOON_OPTIONS.map(({ name }) => name);
  assertEquals(new Set(names).size, names.length);
  const values = BALLOON_OPTIONS.map((spec) => [
    spec.name.replace(/-(.)/g, (_, letter) => letter.toUpperCase()),
    spec.default,
  ]);
  assertEquals(
    resolveBalloonOptions(Object.fromEntries(values)),
    resolveBalloonOptions({}),
  );
});
