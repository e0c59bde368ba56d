/** The pictures of this session, newest first. They live as long as the page. */

const list = document.getElementById("gallery");

/**
 * @typedef {object} Picture
 * @property {string} url
 * @property {string} prompt
 * @property {string} negativePrompt
 * @property {number} width
 * @property {number} height
 * @property {number} steps
 * @property {number} guidance
 * @property {string} seed the digits, which may be more than a number can hold
 * @property {number} seconds how long it took
 */

/**
 * @param {Picture} picture
 * @param {(picture: Picture) => void} use called to take up the picture's settings
 */
export function addPicture(picture, use) {
  const image = element("img", { src: picture.url, alt: picture.prompt, width: picture.width, height: picture.height });
  const caption = element("figcaption", {}, [
    element("p", { className: "prompt" }, [picture.prompt]),
    parameters(picture),
    element("div", { className: "actions" }, [downloadLink(picture), useButton(picture, use)]),
  ]);
  list.prepend(element("li", { className: "picture" }, [element("figure", {}, [image, caption])]));
}

function parameters(picture) {
  const rows = [
    ["Negative prompt", picture.negativePrompt],
    ["Size", `${picture.width} × ${picture.height}`],
    ["Steps", picture.steps],
    ["Guidance", picture.guidance],
    ["Seed", picture.seed],
    ["Time", `${picture.seconds.toFixed(1)} s`],
  ].filter(([, value]) => value !== "");
  return element(
    "dl",
    {},
    rows.map(([name, value]) => element("div", {}, [element("dt", {}, [name]), element("dd", {}, [String(value)])])),
  );
}

function downloadLink({ url, seed }) {
  const link = element("a", { className: "button", href: url, download: `fictures-${seed}.png` }, ["Download"]);
  link.setAttribute("aria-label", `Download, seed ${seed}`);
  return link;
}

function useButton(picture, use) {
  const button = element("button", { type: "button", onclick: () => use(picture) }, ["Use these settings"]);
  button.setAttribute("aria-label", `Use these settings, seed ${picture.seed}`);
  return button;
}

function element(tag, properties, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
