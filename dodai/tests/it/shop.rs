//! The examples, as the README runs them: a Django shop, and a Wagtail site that nobody here wrote.

use std::process::Command;

use crate::http::Client;
use crate::support::{Project, have, repository};

fn ready() -> bool {
    let python = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .status()
        .is_ok_and(|status| status.success());
    have("namespaces", crate::support::namespaces()) && have("python3", python)
}

/// A copy of an example, without what a run of it left behind.
fn example(name: &str) -> Project {
    let project = Project::new();
    let from = repository().join("examples").join(name);
    let copied = Command::new("cp")
        .arg("-r")
        .arg(format!("{}/.", from.display()))
        .arg(project.path())
        .status()
        .unwrap();
    assert!(copied.success());
    for left in [".dodai", ".venv", "staticfiles", "data"] {
        let _ = std::fs::remove_dir_all(project.path().join(left));
    }
    project
}

fn edit(project: &Project, file: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(project.path().join(file)).unwrap();
    assert!(text.contains(from), "{file} has {from:?}");
    project.write(file, &text.replace(from, to));
}

#[test]
fn the_django_shop_is_built_migrated_served_and_rolled_forward() {
    if !ready() {
        return;
    }
    let mut project = example("shop");
    let url = project.up(&["--no-logs"]);
    let page = Client::new(&url, false).get("/").unwrap();
    assert_eq!(page.code, 200);
    assert!(
        page.body.contains("Fresh tea, posted the same day") && page.body.contains("Sencha"),
        "{}",
        page.body
    );
    let order = Client::new(&url, false).post("/order/", "product=1&quantity=2").unwrap();
    assert_eq!(order.code, 302, "{order:?}");
    assert!(Client::new(&url, false).get("/orders/").unwrap().body.contains("2 x Sencha"));
    let css = page
        .body
        .split("href=\"")
        .find_map(|part| part.split('"').next().filter(|href| href.ends_with(".css")))
        .unwrap();
    assert_eq!(
        Client::new(&url, false).get(css).unwrap().code,
        200,
        "static files were collected by the build"
    );

    // A one-off command in the App's environment sees its database.
    let count = "from catalog.models import Order; print('orders:', Order.objects.count())";
    let printed = project.ok(&["run", "shop", "--", ".venv/bin/python", "manage.py", "shell", "-c", count]);
    assert!(printed.contains("orders: 1"), "{printed}");

    // A new migration and a new text.
    project.write(
        "catalog/migrations/0004_product_origin.py",
        "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n    dependencies = [(\"catalog\", \"0003_product_is_available\")]\n    \
         operations = [migrations.AddField(\"product\", \"origin\", models.CharField(max_length=50, default=\"Uji\"))]\n",
    );
    edit(
        &project,
        "catalog/models.py",
        "    price_cents =",
        "    origin = models.CharField(max_length=50, default=\"Uji\")\n    price_cents =",
    );
    edit(
        &project,
        "catalog/templates/catalog/products.html",
        "Fresh tea, posted the same day",
        "New harvest from {{ products.0.origin }}",
    );
    project.ok(&["apply", "."]);
    assert!(Client::new(&url, false).get("/").unwrap().body.contains("New harvest from Uji"));
    assert!(
        Client::new(&url, false).get("/orders/").unwrap().body.contains("2 x Sencha"),
        "the order is still there"
    );
    assert_eq!(project.stop(), 0);
    project.assert_nothing_is_left();
}

#[test]
fn a_wagtail_site_that_nobody_here_wrote_runs() {
    if !ready() {
        return;
    }
    let mut project = example("wagtail");
    project.start(&["--no-logs"]);
    let url = project.url();
    let page = Client::new(&url, false).get("/").unwrap();
    assert_eq!(page.code, 200);
    assert!(page.body.contains("Wagtail"), "{}", page.body);
    assert_eq!(Client::new(&url, false).get("/admin/login/").unwrap().code, 200);
}
