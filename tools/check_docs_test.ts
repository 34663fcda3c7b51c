import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import {
  checkHosts,
  checkMarkdown,
  checkRepository,
  headingFragments,
  type Tree,
} from "./check_docs.ts";

const tree: Tree = {
  paths: new Set([
    "README.md",
    "docs",
    "docs/a.md",
    "docs/b c.md",
    "sys",
    "sys/fd.ts",
  ]),
  fragments: new Map([
    ["README.md", new Set(["top"])],
    ["docs/a.md", new Set(["one", "two-words"])],
  ]),
};

const messages = (file: string, text: string): string[] =>
  checkMarkdown(file, text, tree).map(({ line, message }) =>
    `${line}: ${message}`
  );

Deno.test("checkMarkdown() accepts what exists", () => {
  const text = `
[a](docs/a.md), [one](docs/a.md#one), [top](#top), [folder](docs/), [x](<docs/b%20c.md>)
[outside](https://example.com/none.md#none), [mail](mailto:a@example.com)
[title](docs/a.md "A title"), [definition]
\`sys/fd.ts\`, \`sys/\`, \`other/none.ts\`, \`docs/elsewhere.rst\`, \`tests/*_test.ts\`, \`[none](none.md)\`

[definition]: docs/a.md#two-words

\`\`\`md
[none](none.md) \`sys/none.ts\`
\`\`\`
`;
  assertEquals(messages("README.md", text), []);
  assertEquals(messages("docs/a.md", "[up](../README.md#top) [.](..)"), []);
});

Deno.test("checkMarkdown() reports what does not, with its line", () => {
  const text = `[none](none.md)

[up](docs/../../x.md) [fragment](docs/a.md#three) [own](#none)

[definition]: docs/none.md

\`sys/none.ts\` \`docs/none/\`
`;
  assertEquals(messages("README.md", text), [
    '1: The link "none.md" leads to "none.md", which does not exist',
    '3: The link "docs/../../x.md" leads to "../x.md", which does not exist',
    '3: The link "docs/a.md#three" leads to no heading of "docs/a.md"',
    '3: The link "#none" leads to no heading of "README.md"',
    '5: The link "docs/none.md" leads to "docs/none.md", which does not exist',
    '7: "sys/none.ts" does not exist',
    '7: "docs/none/" does not exist',
  ]);
});

Deno.test("headingFragments() names headings as a forge does", () => {
  const text = `# One: \`code\` & more
## [Linked](a.md) words
## Twice
### Twice
\`\`\`sh
# no heading
\`\`\`
`;
  assertEquals([...headingFragments(text)], [
    "one-code--more",
    "linked-words",
    "twice",
    "twice-1",
  ]);
});

Deno.test("checkHosts() reports registries, with their line", () => {
  const name = ["deb", "example", "org"].join(".");
  assertEquals(checkHosts("a.json", `{\n"url": "https://${name}/"}`), [
    { file: "a.json", line: 2, message: `"${name}" names a registry` },
  ]);
});

Deno.test("checkRepository() reads documents and leaves data alone", async () => {
  const root = await Deno.makeTempDir();
  try {
    const write = async (path: string, text: string): Promise<void> => {
      await Deno.mkdir(join(root, path, ".."), { recursive: true });
      await Deno.writeTextFile(join(root, path), text);
    };
    await write("docs/a.md", "# A\n[b](b.md)\n");
    await write("README.md", "[a](docs/a.md#a)\n");
    await write("node_modules/x/README.md", "[none](none.md)\n");
    await write("coverage/README.md", "[none](none.md)\n");
    assertEquals(await checkRepository(root), [{
      file: "docs/a.md",
      line: 2,
      message: 'The link "b.md" leads to "docs/b.md", which does not exist',
    }]);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
