"""The report's page, as a Jinja template. Its context is what `pipeline.recipes.report` collects."""

TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>acga report</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
  p.note { color: #5a6572; max-width: 46rem; }
  p.loud { background: #fff3cd; border-left: 4px solid #d39e00; padding: .6rem .9rem; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e2e6ea; white-space: nowrap; }
  th:first-child, td:first-child { text-align: left; }
  tr.ours { font-weight: 600; background: #eef6ff; }
  .samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1.1rem; }
  figure { margin: 0; } figure img { width: 100%; border-radius: 4px; display: block; image-rendering: auto; }
  figcaption { font-size: .9rem; margin-top: .3rem; } figcaption span { color: #5a6572; }
  .key i { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .8em; vertical-align: -.05em; }
</style>
<h1>From a sentence to a mask</h1>
<p class="note">{{ test.samples }} test samples of {{ test.clips }} clips; {{ model }}.</p>
{% if seeded %}<p class="loud"><b>The trunk has random weights</b> (visual.weights = "seeded"): it was not trained on
anything, and the scores say nothing about the method.</p>{% endif %}

<h2>Scores</h2>
<p class="note">Each line is a protocol. <b>acga</b> is the authors': half of each map's own maximum as threshold, the
truth through the letterbox and back, mAP as the mean of precisions. <b>coco</b> is that of later works: probability
0.5, the original mask, COCO's average precision. Their mAP are different quantities.
{%- if several %} <b>acga_several</b> counts only clips that show several actors; <b>acga_swapped</b> scores the same
samples with the sentences shifted among the actors of a clip, and <b>every_actor</b> what predicting all actors at
once would give: a network that understands its sentences is high in the first and low in the second.{% endif %}</p>
<div class="wide"><table>
  <tr><th>protocol<th>samples<th>P@0.5<th>0.6<th>0.7<th>0.8<th>0.9<th>mAP<th>overall IoU<th>mean IoU<th>95 %</tr>
  {% for name, scores in protocols.items() -%}
  <tr class="ours"><td>{{ name }}<td>{{ scores.samples }}{% for value in scores.precision.values() %}<td>
    {{- percent(value) }}{% endfor %}<td>{{ percent(scores.map) }}<td>{{ percent(scores.overall_iou) }}<td>
    {{- percent(scores.mean_iou) }}<td>{% for bound in scores.intervals.mean_iou %}
    {{- percent(bound) }}{{ " to " if not loop.last }}{% endfor %}</tr>
  {% endfor %}
</table></div>
<p class="note">The last column is the 95 % interval of the mean IoU, by the bootstrap over videos; metrics.json has
that of every score. It says how sure the score of <i>this</i> network is, and nothing of how other seeds would
fare.</p>
{% if seeds %}<div class="wide"><table>
  <tr><th>mean IoU over seeds<th>mean<th>standard deviation<th>each</tr>
  {% for name, found in seeds.items() -%}
  <tr><td>{{ name }}<td>{{ percent(found.mean) }}<td>{{ percent(found.deviation) }}<td>
    {%- for value in found.each %}{{ percent(value) }}{{ ", " if not loop.last }}{% endfor %}</tr>
  {% endfor %}
</table></div>
<p class="note">The first seed's network is that of the table above. A run repeats itself exactly, whatever its seed;
how far seeds lie apart is what it leaves to chance.</p>{% endif %}
{% for protocol, reason in absent.items() %}<p class="note">{{ protocol }} is absent: {{ reason }}.</p>{% endfor %}
{% if groups %}
<h2>What identifies the actor</h2>
<p class="note">Protocol acga, split by the attribute that alone tells the actor from the others of its clip.</p>
<div class="wide"><table>
  <tr><th>attribute<th>samples<th>P@0.5<th>mean IoU</tr>
  {% for name, scores in groups.items() -%}
  <tr><td>{{ name }}<td>{{ scores.samples }}<td>{{ percent(scores.precision["0.5"]) }}<td>
    {{- percent(scores.mean_iou) }}</tr>
  {% endfor %}
</table></div>
{% endif %}
<h2>Published scores</h2>
<p class="note">As printed by their authors for the real A2D-Sentences and JHMDB-Sentences under protocol acga. They
compare with a run on the same data and on nothing else.</p>
<div class="wide"><table>
  <tr><th>data set, method<th>P@0.5<th>0.6<th>0.7<th>0.8<th>0.9<th>mAP<th>overall IoU<th>mean IoU</tr>
  {% for name, values in published -%}
  <tr><td>{{ name }}{% for value in values %}<td>{{ "%.1f"|format(value) }}{% endfor %}</tr>
  {% endfor %}
</table></div>

{% if curves %}<h2>Training</h2>
<p class="note">Loss of each epoch, mean over its samples.</p>
{% for curve in curves -%}
<svg viewBox="0 0 640 240" width="640" style="max-width:100%" role="img" aria-label="training loss by epoch">
  {% for tick in curve.ticks -%}
  <line x1="50" x2="620" y1="{{ tick.y }}" y2="{{ tick.y }}" stroke="#e2e6ea"/>
  <text x="44" y="{{ tick.y + 4 }}" font-size="11" text-anchor="end" fill="#5a6572">{{ tick.label }}</text>
  {% endfor -%}
  {% for line in curve.lines -%}
  <polyline points="{{ line.points }}" fill="none" stroke="{{ line.colour }}" stroke-width="2"/>
  <text x="{{ 60 + loop.index0 * 90 }}" y="16" font-size="12" fill="{{ line.colour }}">{{ line.name }}</text>
  {% endfor -%}
  <text x="335" y="236" font-size="11" text-anchor="middle" fill="#5a6572">epoch 1 to {{ curve.epochs }}</text>
</svg>{% endfor %}{% endif %}

{% if figures %}<h2>Samples</h2>
<p class="note key">Drawn at random from the test set.<i style="background:#ff5a36"></i>predicted<i
style="border:2px solid #16c5ff; box-sizing:border-box"></i>true outline</p>
<div class="samples">
  {% for figure in figures -%}
  <figure><img src="data:image/png;base64,{{ figure.image }}" alt="{{ figure.text }}">
  <figcaption>{{ figure.text }} <span>IoU {{ "%.2f"|format(figure.iou) }}</span></figcaption></figure>
  {% endfor %}
</div>{% endif %}

<h2>Records that met a rule</h2>
{% if rules %}<p class="note">Known irregularities of the data, what was done about them, and how often.</p>
<div class="wide"><table>
  <tr><th>rule<th>train<th>test</tr>
  {% for name, rule in rules.items() -%}
  <tr><td>{{ name }}: {{ rule.detects }}; {{ rule.done }}<td>{{ rule.train }}<td>{{ rule.test }}</tr>
  {% endfor %}
</table></div>{% else %}<p class="note">None.</p>{% endif %}
{% if quarantined %}<p class="note">Videos that cannot be decoded, left out of every figure on this page:</p>
<ul>{% for video, reason in quarantined.items() %}<li><b>{{ video }}</b>: {{ reason }}</li>{% endfor %}</ul>{% endif %}
{% if text.missing is none %}<p class="note">The sentences are not in the imported folder, only their word vectors.</p>
{% elif text.missing %}<p class="note">{{ text.missing.values()|sum }} of the test set's {{ text.words }} words have no
vector: {% for word, count in text.missing.items() %}{{ word }} ({{ count }}){{ ", " if not loop.last else "." }}
{%- endfor %}</p>{% endif %}
</html>
"""
