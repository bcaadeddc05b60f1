"""The pages of the shop."""

from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from .models import Order, Product

QUANTITY_MAX = 100


@require_GET
def product_list(request: HttpRequest) -> HttpResponse:
    products = Product.objects.filter(is_available=True)
    return render(request, "catalog/products.html", {"products": products})


# There is no session to steal here: whoever may see the page may order.
@csrf_exempt
@require_POST
def order(request: HttpRequest) -> HttpResponse:
    product = get_object_or_404(Product, pk=request.POST.get("product"), is_available=True)
    try:
        quantity = int(request.POST.get("quantity", "1"))
    except ValueError:
        return HttpResponseBadRequest("quantity is not a number")
    if not 1 <= quantity <= QUANTITY_MAX:
        return HttpResponseBadRequest(f"quantity must be between 1 and {QUANTITY_MAX}")
    with transaction.atomic():
        Order.objects.create(product=product, quantity=quantity)
    return redirect("orders")


@require_GET
def order_list(request: HttpRequest) -> HttpResponse:
    orders = Order.objects.select_related("product")[:50]
    return render(request, "catalog/orders.html", {"orders": orders, "count": Order.objects.count()})


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    # Ready means: the database answers and has the tables of this version.
    Product.objects.only("pk").first()
    return HttpResponse("ok\n", content_type="text/plain")
