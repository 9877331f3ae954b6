"""How the page looks: light and dark, on a phone, on paper. No font, image or rule comes from elsewhere."""

STYLE = """
:root{color-scheme:light dark;--paper:#f6f5f0;--card:#fff;--ink:#18211c;--soft:#5a665f;--line:#e1e2d9;--grid:#e9eae3;
--accent:#0b6e4f;--tint:#e7f2ec;--even:#98a39c;--code:#f3f3ec}
@media (prefers-color-scheme:dark){:root{--paper:#101412;--card:#181e1b;--ink:#e7ece9;--soft:#9ba8a1;--line:#2b3430;
--grid:#252d29;--accent:#63cfa4;--tint:#1b3027;--even:#6b7871;--code:#131816}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif;
overflow-wrap:anywhere}
main{max-width:62rem;margin:0 auto;padding:3rem 1.25rem 4rem}
h1,h2,h3,p,ul,ol,dl,dd,figure,table,pre{margin:0;padding:0}
h1{font:600 clamp(2.1rem,7vw,3.2rem)/1.08 ui-serif,Georgia,"Times New Roman",serif;letter-spacing:-.015em}
h1 small{font:400 .42em/1 system-ui,sans-serif;color:var(--soft);letter-spacing:0;white-space:nowrap}
h2{font:600 1.35rem/1.25 ui-serif,Georgia,"Times New Roman",serif;margin-bottom:.9rem}
h3{font-size:.95rem;font-weight:600;line-height:1.35}
small,.note{font-size:.86rem;color:var(--soft)}
.kind{font-size:.8rem;font-weight:600;letter-spacing:.08em;text-transform:uppercase;color:var(--accent);margin-bottom:.6rem}
.lead{font-size:1.16rem;line-height:1.5;max-width:44rem;margin:.9rem 0 1.6rem}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.6rem 1.7rem;margin-top:1.1rem}
section>*+*{margin-top:1rem}section>h2+*,section>h2+h3{margin-top:0}section>h3{margin-top:1.5rem}
section>h3+*{margin-top:.45rem}section>.note+.path{margin-top:.6rem}ul+.note{margin-top:.9rem}header .note{margin-top:.7rem}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,13rem),1fr));gap:.8rem}
.wide{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));gap:1.6rem 2.2rem;align-items:start}
.tile{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.1rem 1.25rem 1rem}
.tile b{display:block;font:600 2.15rem/1.15 system-ui,sans-serif;font-variant-numeric:tabular-nums;letter-spacing:-.02em;
margin:.2rem 0 .1rem}
.tile i{font-style:normal;font-size:.9rem;font-variant-numeric:tabular-nums}
.tile p{font-size:.82rem;line-height:1.4;color:var(--soft);margin-top:.5rem}
.count{border-left:3px solid var(--accent);padding:.1rem 0 .1rem .8rem}
.count b{display:block;font-size:1.3rem;line-height:1.25;font-variant-numeric:tabular-nums}
.count span{font-size:.86rem;color:var(--soft)}
.facts{display:grid;grid-template-columns:minmax(6.5rem,max-content) 1fr;gap:.5rem 1.4rem;font-size:.95rem}
.facts dt{color:var(--soft)}
.path{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center;list-style:none;font-size:.93rem}
.path li{border:1px solid var(--line);border-radius:99px;padding:.2rem .85rem}
.path li+li::before{content:none}
.path li:last-child{background:var(--tint);border-color:transparent;font-weight:600}
.path .to{border:0;padding:0;color:var(--soft)}
.bar{display:flex;height:.7rem;border-radius:99px;overflow:hidden;background:var(--line)}
.bar span{background:var(--accent)}
.scroll{overflow-x:auto}.scroll td{min-width:5.5rem;overflow-wrap:break-word}
.scroll .n{min-width:0}.scroll code{white-space:nowrap}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.42rem .9rem .42rem 0;border-bottom:1px solid var(--line)}
th{font-weight:400}thead th{color:var(--soft);font-size:.82rem}
tr:last-child>*{border-bottom:0}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.metric{table-layout:fixed;margin-top:.5rem}
.metric th,.metric td{border:0;padding:0;vertical-align:middle;line-height:1.25}
.metric th{padding-right:.8rem}
.metric .n{padding-left:1rem;line-height:1.2}
.what{width:32%}.value{width:7.6rem}
.metric .n small{display:block;font-size:.74rem}
.metric svg{display:block}
pre{background:var(--code);border:1px solid var(--line);border-radius:10px;padding:.9rem 1.1rem;overflow-x:auto;
font:.83rem/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:normal}
code{font:.84em/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;color:var(--soft)}
pre code{font:inherit;color:inherit}
ul.list{padding-left:1.15rem}.list li+li{margin-top:.4rem}.list li::marker{color:var(--accent)}
svg{overflow:visible}.plot{display:block;width:100%;height:auto;max-width:30rem}
svg text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--soft);font-variant-numeric:tabular-nums}
.strip .tick{font-size:11px}
svg .name{fill:var(--ink)}
.grid{stroke:var(--grid)}.axis{stroke:var(--even)}
.even{stroke:var(--even);stroke-dasharray:4 4}
.line{fill:none;stroke:var(--accent);stroke-width:1.75;stroke-linejoin:round;stroke-linecap:round}
.whisker{stroke:var(--accent);stroke-width:1.75;stroke-opacity:.65}
.dot,.point{fill:var(--accent)}.dot{stroke:var(--card);stroke-width:1.25}
.best{fill:none;stroke:var(--accent);stroke-opacity:.55;stroke-width:1.5}
footer{color:var(--soft);font-size:.86rem;margin-top:1.6rem}
@media (max-width:34rem){main{padding:1.8rem .9rem 2.5rem}section{padding:1.2rem 1.1rem}
.row{grid-template-columns:repeat(2,1fr)}.tile{padding:.85rem .9rem}.tile b{font-size:1.65rem}
.facts{grid-template-columns:1fr;gap:.1rem}.facts dt{font-size:.86rem}.facts dd+dt{margin-top:.6rem}
.metric,.metric tbody{display:block}.metric colgroup{display:none}
.metric tr{display:grid;grid-template-columns:1fr 8rem}.metric th{grid-column:1/-1;padding-top:.4rem}
.metric tr:last-child td:first-child{display:none}}
@media print{@page{margin:14mm}:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#ccc;--grid:#e4e4e4;--accent:#0b6e4f;
--tint:#eef4f1;--code:#fff}body{font-size:10pt}html{font-size:13px}main{max-width:none;padding:0}*{print-color-adjust:exact}
section{border:0;border-top:1px solid var(--line);border-radius:0;padding:1rem 0 0}pre{white-space:pre-wrap}
.row{grid-template-columns:repeat(4,1fr)}.wide{grid-template-columns:1fr 1fr}.tile{padding:.6rem .8rem}.tile b{font-size:1.5rem}
.scroll code{white-space:normal}.scroll td{min-width:0}.scroll{overflow:visible}
.tile,figure,tr,pre,.facts,.path{break-inside:avoid}h2,h3{break-after:avoid}}
"""
