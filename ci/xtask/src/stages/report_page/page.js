// SPDX-License-Identifier: GPL-2.0-only
// Looks for defects on the page of the report; returns what it finds.
// It runs in the page, but is the test's and not the page's.
(scheme, width) => {
	const complaints = [];
	const say = (element, what) => complaints.push(
		`${element.tagName.toLowerCase()} '${(element.textContent || "").trim().slice(0, 40)}': ${what}`);
	const paper = scheme === "paper";

	// Paper has what is unfolded; a reader may unfold anything.
	if (!paper)
		for (const details of document.querySelectorAll("details"))
			details.open = true;
	const all = selector =>
		[...document.querySelectorAll(selector)].filter(element => element.checkVisibility());

	if (document.scripts.length || document.querySelector("img, iframe, object, embed, [onerror]"))
		complaints.push("something that could run or be fetched");
	if (window.innerWidth !== width)
		complaints.push(`the window is ${window.innerWidth} wide, not ${width}`);
	if (document.documentElement.scrollWidth > width)
		complaints.push(`the page is ${document.documentElement.scrollWidth} wide, the window ${width}`);
	for (const element of all("body *")) {
		const inside = paper ? ".unseen, .skip, .patterns" : ".scroll table, .unseen, .skip, .patterns";
		if (element.closest(inside))
			continue;
		const box = element.getBoundingClientRect();
		if (box.width > 0 && (box.left < -0.5 || box.right > width + 0.5))
			say(element, `reaches from ${box.left} to ${box.right}`);
	}

	// Figures: nothing outside, no text on another, none too small.
	for (const svg of all("svg[role=img]")) {
		const view = svg.viewBox.baseVal;
		const scale = svg.getBoundingClientRect().width / view.width;
		const texts = [...svg.querySelectorAll("text")].map(text => [text, text.getBBox()]);
		for (const [text, box] of texts) {
			if (box.x < -0.5 || box.x + box.width > view.width + 0.5 ||
			    box.y < -0.5 || box.y + box.height > view.height + 2)
				say(text, "outside of its figure");
			if (parseFloat(getComputedStyle(text).fontSize) * scale < 9)
				say(text, `${parseFloat(getComputedStyle(text).fontSize) * scale} px high`);
		}
		for (let i = 0; i < texts.length; i++)
			for (let j = i + 1; j < texts.length; j++) {
				const [a, b] = [texts[i][1], texts[j][1]];
				if (Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x) > 0.5 &&
				    Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y) > 4)
					say(texts[i][0], `lies on '${texts[j][0].textContent}'`);
			}
		for (const bar of svg.querySelectorAll("rect")) {
			const box = bar.getBBox();
			if (!(box.width > 0) || box.x < -0.5 || box.x + box.width > view.width + 0.5)
				say(svg, `a bar from ${box.x}, ${box.width} wide`);
		}
	}

	// Text stands out from what it is on.
	const colour = text => (text.match(/[\d.]+/g) || []).map(Number);
	const luminance = ([r, g, b]) => {
		const [x, y, z] = [r, g, b].map(v => v / 255)
			.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * x + 0.7152 * y + 0.0722 * z;
	};
	const behind = element => {
		for (let one = element; one; one = one.parentElement) {
			const found = colour(getComputedStyle(one).backgroundColor);
			if (found.length === 3 || found[3] === 1)
				return found;
		}
		return [255, 255, 255];
	};
	for (const element of all("body *")) {
		const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
		if (!own || element.closest(".unseen, title, desc, style"))
			continue;
		const style = getComputedStyle(element);
		const front = luminance(colour(element.closest("svg") ? style.fill : style.color));
		const back = luminance(behind(element));
		const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
		if (!(contrast >= 4.5))
			say(element, `contrast ${contrast.toFixed(2)}`);
	}
	const ground = luminance(behind(document.body));
	if (scheme === "dark" ? ground > 0.1 : ground < 0.8)
		complaints.push(`the page is not ${scheme}`);

	// References lead somewhere, and to one place.
	const ids = new Set();
	for (const element of document.querySelectorAll("[id]")) {
		if (ids.has(element.id))
			say(element, `a second '${element.id}'`);
		ids.add(element.id);
	}
	for (const attribute of ["aria-labelledby", "aria-describedby"])
		for (const element of document.querySelectorAll(`[${attribute}]`))
			for (const id of element.getAttribute(attribute).split(" "))
				if (!ids.has(id))
					say(element, `no '${id}'`);
	for (const link of document.querySelectorAll("a[href]"))
		if (!ids.has(link.getAttribute("href").replace(/^#/, "")))
			say(link, `leads nowhere: ${link.getAttribute("href")}`);
	if (!all("h1").length || paper !== (getComputedStyle(document.querySelector("nav")).display === "none"))
		complaints.push("what is for screens is on paper, or nothing is anywhere");
	return complaints;
}
