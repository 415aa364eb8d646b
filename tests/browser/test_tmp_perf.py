import time, pytest
from pathlib import Path

SETUP = """\
import numpy as np, threading, time, pyarrow as pa
from datetime import datetime, UTC
from fake_dataflow import FakeDataflow
from dora_nb import CameraView
dataflow = FakeDataflow()
W,H=%d,%d
rng=np.random.default_rng(0)
y,x=np.mgrid[0:H,0:W]
base=np.stack([x*255//W,y*255//H,(x+y)*255//(W+H)],-1).astype(np.int16)
base=np.clip(base+rng.normal(0,12,(H//4,W//4,3)).repeat(4,0).repeat(4,1),0,255).astype(np.uint8)
def play():
    n=0; due=time.monotonic()
    while True:
        n+=1; img=base.copy(); l=60+(n*4)%%(W-260); img[H//3:H//3+120,l:l+160]=(20,200,60)
        st=datetime.now(UTC); dataflow.publish_image(img,timestamp=st); dataflow.publish_boxes([[l,H//3,l+160,H//3+120,.9,0],[20,20,120,90,.5,1]],timestamp=st)
        due+=1/30; d=due-time.monotonic()
        if d>0: time.sleep(d)
        else: due=time.monotonic()
threading.Thread(target=play,daemon=True).start()
view = CameraView('camera/image', boxes='detector/bbox', dataflow=dataflow)
view"""
WATCH = """async secs => { const root=document.querySelector('.dora-view'); let n=0;
 const t0=performance.now(); const obs=new MutationObserver(()=>{n++}); obs.observe(root,{attributes:true,attributeFilter:['data-seq']});
 const fig=root.querySelector('.dora-figures'); const texts=[]; const iv=setInterval(()=>texts.push(fig.textContent),500);
 await new Promise(r=>setTimeout(r,secs*1000)); obs.disconnect(); clearInterval(iv);
 return [n/((performance.now()-t0)/1000), texts.map(t=>t.match(/age ([^·]*)/)?.[1]), texts.at(-1), performance.memory?.usedJSHeapSize/1e6]; }"""


@pytest.mark.parametrize(
    "w,h,cell",
    [
        (640, 480, "1"),
        (640, 480, "t=time.time()\nwhile time.time()-t<40: pass"),
        (1280, 720, "t=time.time()\nwhile time.time()-t<40: pass"),
    ],
)
def test_x(open_notebook, page, w, h, cell):
    nb = open_notebook("x.ipynb", [SETUP % (w, h), cell])
    nb.run_all()
    page.wait_for_selector(".dora-view[data-seq]")
    time.sleep(3)
    r = page.evaluate(WATCH, 8)
    ages = [float(a.split()[0]) for a in r[1] if a and a.split()[0].replace(".", "").isdigit()]
    ages.sort()
    print(
        "\n",
        w,
        h,
        cell[:20].replace("\n", " "),
        "fps %.1f" % r[0],
        "age med",
        ages[len(ages) // 2],
        "max",
        ages[-1],
        r[2],
        "heap",
        r[3],
        Path("/proc/loadavg").read_text().split()[0],
    )
    nb.interrupt()
    print(nb.run_code("print(view.stats)"))
