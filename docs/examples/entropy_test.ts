import { assertStringIncludes } from "@std/assert";

Deno.test("the page on writing a device shows the example as it is", () => {
  const page = Deno.readTextFileSync(
    new URL("../writing-a-device.md", import.meta.url),
  );
  const example = Deno.readTextFileSync(
    new URL("./entropy.ts", import.meta.url),
  );
  assertStringIncludes(page, "```ts\n" + example + "```");
});
