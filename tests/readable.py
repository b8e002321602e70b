"""What a reader can read on a page in a browser: its contrast, and labels that touch."""

from playwright.sync_api import Page

CONTRAST = """(within) => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const over = ([r, g, b, a = 1], below, opacity = 1) =>
        [r, g, b].map((value, n) => a * opacity * value + (1 - a * opacity) * below[n]);
    const luminance = (colour) => {
        const [r, g, b] = colour.map((value) => value / 255)
            .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (a, b) => {
        const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
        return (light + 0.05) / (dark + 0.05);
    };
    const upwards = (element) => element ? [element, ...upwards(element.parentElement)] : [];
    const opacity = (element) =>
        upwards(element).reduce((part, one) => part * getComputedStyle(one).opacity, 1);
    const ofPage = (element) => upwards(element).reverse()
        .map((one) => numbers(getComputedStyle(one).backgroundColor))
        .reduce((below, colour) => over(colour, below), [255, 255, 255]);

    // What is drawn before a text of a chart and under its middle lies behind it.
    const shapes = new Map();
    const shapesOf = (chart) => {
        const filled = (shape) => getComputedStyle(shape).fill.startsWith("rgb");
        if (!shapes.has(chart)) {
            shapes.set(chart, [...chart.querySelectorAll("path, rect")].filter(filled));
        }
        return shapes.get(chart);
    };
    const covers = (shape, x, y) => {
        const box = shape.getBoundingClientRect();
        if (x < box.left || x > box.right || y < box.top || y > box.bottom) return false;
        return shape.isPointInFill(
            new DOMPoint(x, y).matrixTransform(shape.getScreenCTM().inverse()));
    };
    const ofChart = (text, chart) => {
        const box = text.getBoundingClientRect();
        const [x, y] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
        const before = (shape) => shape.compareDocumentPosition(text) & 4;
        return shapesOf(chart).filter((shape) => before(shape) && covers(shape, x, y))
            .reduce((below, shape) => {
                const style = getComputedStyle(shape);
                return over(numbers(style.fill), below, style.fillOpacity * opacity(shape));
            }, ofPage(chart));
    };

    const measured = (element) => {
        const style = getComputedStyle(element);
        const chart = element.ownerSVGElement;
        const behind = chart ? ofChart(element, chart) : ofPage(element);
        const colour = numbers(chart ? style.fill : style.color);
        const shown = over(colour, behind, opacity(element) * (chart ? style.fillOpacity : 1));
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        return { ratio: contrast(shown, behind), needed: large ? 3 : 4.5 };
    };
    const seen = (element) => !element.closest("script, style, noscript, canvas")
        && element.checkVisibility({ visibilityProperty: true })
        // Vega hides labels for which there is no room.
        && !(element.ownerSVGElement && element.getAttribute("opacity") === "0");

    const found = [];
    for (const root of document.querySelectorAll(within)) {
        const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            const text = walker.currentNode.textContent.trim();
            const parent = walker.currentNode.parentElement;
            const element = parent.closest("select") || parent;
            if (!text || !seen(element)) continue;
            found.push({ text, ...measured(element) });
        }
    }
    return found;
}"""
"""The contrast of each visible text with what is behind it, by WCAG 2, and the least of level AA.

https://www.w3.org/TR/WCAG22/#contrast-minimum
"""

TOUCHING = """() => {
    const BESIDE = 2; // pixels at each end of a label
    const seen = (text) => text.textContent && text.getAttribute("opacity") !== "0"
        && !text.closest(".mark-text.role-mark");
    const corners = (text) => {
        const { x, y, width, height } = text.getBBox();
        const [left, right] = [x - BESIDE, x + width + BESIDE];
        return [[left, y], [right, y], [right, y + height], [left, y + height]]
            .map(([a, b]) => new DOMPoint(a, b).matrixTransform(text.getScreenCTM()));
    };
    // Two rectangles are apart if a line along a side of one separates them.
    const separated = (a, b) => [a, b].some((box) => [0, 1].some((n) => {
        const normal = { x: box[n].y - box[n + 1].y, y: box[n + 1].x - box[n].x };
        const along = (points) => points.map((point) => point.x * normal.x + point.y * normal.y);
        const [mine, other] = [along(a), along(b)];
        return Math.max(...mine) <= Math.min(...other) || Math.max(...other) <= Math.min(...mine);
    }));
    const found = [];
    for (const chart of document.querySelectorAll("svg.marks")) {
        const texts = [...chart.querySelectorAll("text")].filter(seen);
        const boxes = texts.map(corners);
        for (let a = 0; a < texts.length; a += 1) {
            for (let b = 0; b < a; b += 1) {
                if (separated(boxes[a], boxes[b])) continue;
                const name = chart.closest("section").id;
                found.push(`${name}: ${texts[b].textContent} | ${texts[a].textContent}`);
            }
        }
    }
    return found;
}"""


OUTSIDE = """async () => {
    await Promise.all(Object.values(views).map((view) => view.runAsync()));
    const cut = (text) => {
        const [box, whole] = [text, text.ownerSVGElement].map((one) => one.getBoundingClientRect());
        return box.width && text.textContent.trim() && (
            box.left < whole.left - 2 || box.right > whole.right + 2 ||
            box.top < whole.top - 2 || box.bottom > whole.bottom + 2);
    };
    return [...document.querySelectorAll("svg.marks text")].filter(cut)
        .map((text) => `${text.closest("section").id}: ${text.textContent}`);
}"""


def outside(page: Page) -> list[str]:
    """Return the texts that the edges of their charts cut off."""
    return list(page.evaluate(OUTSIDE))


def faint(page: Page, within: str = "body") -> list[str]:
    """Return the visible texts whose contrast is less than WCAG's level AA demands.

    Args:
        page: The page, as it is shown.
        within: Selector of the parts to look at.
    """
    found = page.evaluate(CONTRAST, within)
    assert found, "no text is visible"
    return [f"{one['text']}: {one['ratio']:.2f}" for one in found if one["ratio"] < one["needed"]]


def touching(page: Page) -> list[str]:
    """Return the pairs of labels of axes and legends that leave no room between each other."""
    return list(page.evaluate(TOUCHING))
