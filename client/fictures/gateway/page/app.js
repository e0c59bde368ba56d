import { watchHealth } from "./health.js";
import { setUpImages } from "./images.js";
import { setUpKey } from "./key.js";
import { setUpText } from "./text.js";

const refreshHealth = watchHealth();
setUpKey(refreshHealth);
setUpText();
setUpImages();
refreshHealth();
