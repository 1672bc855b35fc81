// Bundles the widget into one file that the server serves; the same sources give the same bytes.
// `--tests` bundles the tests instead; `--out FILE` writes elsewhere, which is how a test compares.
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { build, transform } from "esbuild";

const LARGEST_GZ_BYTES = 40 * 1024;

const here = dirname(fileURLToPath(import.meta.url));

// Style sheets become minified text: Lit adopts them, so no page needs 'unsafe-inline'.
const styleSheets = {
  name: "style sheets",
  setup({ onLoad }) {
    onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const css = await readFile(path, "utf8");
      const { code } = await transform(css, { loader: "css", minify: true, target: "chrome111" });
      return { contents: code.trim(), loader: "text" };
    });
  },
};

// What the bundle contains must be distributed with these texts.
async function licences() {
  const texts = ["lit", "marked"].map(async (name) => {
    const text = await readFile(resolve(here, "node_modules", name, "LICENSE"), "utf8");
    return `${name}\n\n${text.trim()}\n`;
  });
  return (await Promise.all(texts)).join(`\n${"-".repeat(80)}\n\n`);
}

const { values } = parseArgs({ options: { tests: { type: "boolean" }, out: { type: "string" } } });

if (values.tests) {
  await rm(resolve(here, "build"), { recursive: true, force: true });
  const names = (await readdir(resolve(here, "test"))).filter((name) => name.endsWith(".test.ts"));
  await build({
    absWorkingDir: here,
    entryPoints: names.map((name) => `test/${name}`),
    outdir: "build",
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    logLevel: "warning",
  });
} else {
  const out = resolve(values.out ?? resolve(here, "../server/static/amends-chat.js"));
  await mkdir(dirname(out), { recursive: true });
  await build({
    absWorkingDir: here,
    entryPoints: ["src/define.ts"],
    outfile: out,
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2022",
    charset: "utf8",
    plugins: [styleSheets],
    legalComments: "none",
    banner: { js: "/*! amends-chat. Contains lit (BSD-3-Clause) and marked (MIT), see amends-chat.licenses.txt */" },
    logLevel: "warning",
  });
  await writeFile(out.replace(/\.js$/, ".licenses.txt"), await licences());
  const bytes = await readFile(out);
  const gz = gzipSync(bytes, { level: 9 }).length;
  console.log(`${out}: ${bytes.length} bytes, ${gz} gzipped (${(gz / 1024).toFixed(1)} KB of 40)`);
  if (gz > LARGEST_GZ_BYTES) {
    console.error(`The bundle must stay at or under ${LARGEST_GZ_BYTES} bytes gzipped; it has ${gz}.`);
    process.exitCode = 1;
  }
}
